"""The limits of the server of the demo."""

import asyncio
import os
import time

import pytest

gr = pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
testclient = pytest.importorskip('starlette.testclient')

from gradio import processing_utils  # noqa: E402
from gradio import route_utils  # noqa: E402
from gradio import routes  # noqa: E402
from starlette import middleware  # noqa: E402

from genre_flax.demo import limits  # noqa: E402

URL = 'http://example.com/a.jpg'


@pytest.fixture
def app(tmp_path, monkeypatch):
  """An app with one endpoint, which returns the sizes of uploaded files."""
  monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path))
  guard = middleware.Middleware(limits.LimitsMiddleware, upload_dir=tmp_path)

  # In a running event loop, since Gradio creates loops of its own otherwise,
  # and does not close them.
  async def create():
    with gr.Blocks(analytics_enabled=False) as demo:
      files, sizes = gr.File(file_count='multiple'), gr.JSON()
      gr.Button().click(
        lambda files: [os.path.getsize(file['path']) for file in files],
        files,
        sizes,
        api_name='sizes',
        queue=False,
        preprocess=False,
      )
    demo.max_file_size = None
    return routes.App.create_app(demo, app_kwargs={'middleware': [guard]})

  return asyncio.run(create())


@pytest.fixture
def client(app):
  with testclient.TestClient(app, raise_server_exceptions=False) as client:
    yield client


def call(client, path):
  file = {'path': path, 'meta': {'_type': 'gradio.FileData'}}
  return client.post('/gradio_api/run/sizes', json={'data': [[file]]})


def upload(client, content=b'12345'):
  return client.post('/gradio_api/upload', files={'files': ('a.jpg', content)})


def test_uploaded_files_pass(client):
  [path] = upload(client).json()
  response = call(client, path)
  assert response.status_code == 200
  assert response.json()['data'] == [[5]]


@pytest.mark.parametrize('url', [URL, URL.upper(), ' https://example.com/a'])
def test_remote_files_are_not_fetched(client, monkeypatch, url):
  fetched = []

  async def record(url, *args, **kwargs):
    fetched.append(url)
    raise OSError('The network is not available.')

  monkeypatch.setattr(processing_utils, 'async_ssrf_protected_download', record)
  monkeypatch.setattr(route_utils.safehttpx, 'async_validate_url', record)
  statuses = {
    call(client, url).status_code,
    client.get(f'/gradio_api/file={url}').status_code,
    client.get(f'/gradio_api/file/{url}').status_code,
  }
  assert statuses == {403} and not fetched


@pytest.mark.parametrize('name', ['', '/', '/ab', '/ab/..', '/..', '/../x/y'])
def test_folders_do_not_end_the_deletion_of_files(client, app, tmp_path, name):
  (tmp_path / 'ab').mkdir()
  [path] = upload(client).json()
  assert call(client, f'{tmp_path}{name}').status_code == 403
  route_utils.delete_files_created_by_app(app.get_blocks(), age=None)
  assert not os.path.exists(path)


def test_bodies_are_limited(client):
  body = b'"' + bytes(limits.MAX_BODY_BYTES) + b'"'
  response = client.post('/gradio_api/run/sizes', content=body)
  assert response.status_code == 413


def test_the_total_of_uploads_is_limited(client, monkeypatch):
  monkeypatch.setattr(limits, 'MAX_TOTAL_BYTES', 20_000)
  statuses = {upload(client, bytes([i]) * 8000).status_code for i in range(4)}
  assert statuses == {200, 507}


def test_the_size_of_uploads_is_declared(client):
  chunks = (chunk for chunk in [b'12345'])
  response = client.post('/gradio_api/upload', content=chunks)
  assert response.status_code == 411


def test_parts_of_interrupted_uploads_are_deleted(
  client, tmp_path, monkeypatch
):
  part = tmp_path / 'part'  # Gradio writes uploads to files in this folder.
  part.write_bytes(b'12345')
  [complete] = upload(client).json()
  assert part.exists()
  now = time.time()
  monkeypatch.setattr(time, 'time', lambda: now + 2 * limits.KEEP_SECONDS)
  assert upload(client).status_code == 200
  assert not part.exists()
  # Gradio's own `delete_cache` deletes this one.
  assert os.path.exists(complete)
