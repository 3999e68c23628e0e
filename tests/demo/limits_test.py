"""The limits, each compared with an app without the middleware."""

import asyncio
import gc
import os
import time

import pytest

gr = pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
testclient = pytest.importorskip('starlette.testclient')

from gradio import processing_utils  # noqa: E402
from gradio import route_utils  # noqa: E402
from gradio import routes  # noqa: E402
from starlette import middleware  # noqa: E402
from starlette import requests  # noqa: E402

from genre_flax.demo import limits  # noqa: E402

URL = 'http://example.com/a.jpg'


@pytest.fixture(params=[False, True], ids=['gradio', 'limited'])
def is_limited(request):
  return request.param


@pytest.fixture
def app(is_limited, tmp_path, monkeypatch):
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
    options = {'middleware': [guard]} if is_limited else {}
    return routes.App.create_app(demo, app_kwargs=options)

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
def test_remote_files_are_not_fetched(client, is_limited, monkeypatch, url):
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
  if is_limited:
    assert statuses == {403} and not fetched
  elif url == URL:
    assert len(fetched) == 3


@pytest.mark.parametrize('name', ['', '/', '/ab', '/ab/..', '/..', '/../x/y'])
def test_folders_do_not_end_the_deletion_of_files(
  client, app, is_limited, tmp_path, name
):
  (tmp_path / 'ab').mkdir()
  [path] = upload(client).json()
  status = call(client, f'{tmp_path}{name}').status_code
  if is_limited:
    assert status == 403
    route_utils.delete_files_created_by_app(app.get_blocks(), age=None)
    assert not os.path.exists(path)
  elif name == '':
    with pytest.raises(IsADirectoryError):
      route_utils.delete_files_created_by_app(app.get_blocks(), age=None)


def test_bodies_are_limited(client, is_limited):
  body = b'"' + bytes(limits.MAX_BODY_BYTES) + b'"'
  response = client.post('/gradio_api/run/sizes', content=body)
  assert response.status_code == (413 if is_limited else 422)


@pytest.mark.parametrize('body', [b'', b'{', b'[' * 100_000, b'\xff'])
def test_bodies_that_are_not_json_reach_gradio(client, body):
  response = client.post('/gradio_api/run/sizes', content=body)
  assert response.status_code in (400, 422, 500)


def test_the_total_of_uploads_is_limited(client, is_limited, monkeypatch):
  monkeypatch.setattr(limits, 'MAX_TOTAL_BYTES', 20_000)
  statuses = {upload(client, bytes([i]) * 8000).status_code for i in range(4)}
  assert statuses == ({200, 507} if is_limited else {200})


def test_the_size_of_uploads_is_declared(client, is_limited):
  chunks = (chunk for chunk in [b'12345'])
  response = client.post('/gradio_api/upload', content=chunks)
  assert response.status_code == (411 if is_limited else 400)


# Gradio leaves the file open as well.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_parts_of_interrupted_uploads_are_deleted(
  app, client, is_limited, tmp_path, monkeypatch
):
  interrupt_upload(app)
  gc.collect()
  [part] = (path for path in tmp_path.iterdir() if path.is_file())
  [complete] = upload(client).json()
  assert part.exists()
  now = time.time()
  monkeypatch.setattr(time, 'time', lambda: now + 2 * limits.KEEP_SECONDS)
  assert upload(client).status_code == 200
  assert part.exists() != is_limited
  # Gradio's own `delete_cache` deletes this one.
  assert os.path.exists(complete)


def interrupt_upload(app):
  """Disconnects within a file."""
  body = (
    b'--x\r\nContent-Disposition: form-data; name="files"; filename="b.jpg"'
    b'\r\n\r\n12345'
  )
  messages = [
    {'type': 'http.request', 'body': body, 'more_body': True},
    {'type': 'http.disconnect'},
  ]

  async def receive():
    return messages.pop(0)

  async def send(message):
    del message

  scope = {
    'type': 'http',
    'method': 'POST',
    'path': '/gradio_api/upload',
    'raw_path': b'/gradio_api/upload',
    'query_string': b'',
    'headers': [
      (b'content-type', b'multipart/form-data; boundary=x'),
      (b'content-length', b'1000'),
    ],
  }
  with pytest.raises(requests.ClientDisconnect):
    asyncio.run(app(scope, receive, send))
