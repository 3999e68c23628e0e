"""The limits of the server that Gradio has no setting for, and its own."""

import os
import pathlib

import pytest

from tests.demo import app_test
from tests.demo import conftest

pytest.importorskip('gradio', reason="needs: pip install -e '.[demo]'")
httpx = pytest.importorskip('httpx')

from gradio import processing_utils  # noqa: E402
from gradio import route_utils  # noqa: E402

from genre_flax.demo import limits  # noqa: E402

pytestmark = app_test.pytestmark
API = app_test.API
URL = 'http://example.com/a.jpg'


@pytest.fixture(scope='module')
def demo(launch):
  with launch() as demo:
    yield demo


@pytest.fixture
def http(demo):
  with httpx.Client(base_url=demo.local_url, timeout=30) as http:
    yield http


@pytest.fixture
def upload_dir(demo):
  return pathlib.Path(os.environ['GRADIO_TEMP_DIR'])


def post(http, path):
  return app_test.post(http, app_test.file_data(path))


def upload(http, content=b'12345'):
  return app_test.upload_bytes(http, content)


@pytest.mark.parametrize('url', [URL, URL.upper(), ' https://example.com/a'])
def test_remote_files_are_not_fetched(http, monkeypatch, url):
  fetched = []

  async def record(url, *args, **kwargs):
    fetched.append(url)
    raise OSError('The network is not available.')

  monkeypatch.setattr(processing_utils, 'async_ssrf_protected_download', record)
  monkeypatch.setattr(route_utils.safehttpx, 'async_validate_url', record)
  statuses = {
    post(http, url).status_code,
    http.get(f'{API}/file={url}').status_code,
    http.get(f'{API}/file/{url}').status_code,
  }
  assert statuses == {403} and not fetched


@pytest.mark.parametrize('name', ['', '/', '/ab', '/ab/..', '/..', '/../x/y'])
def test_folders_do_not_end_the_deletion_of_files(http, demo, upload_dir, name):
  (upload_dir / 'ab').mkdir(exist_ok=True)
  [path] = upload(http).json()
  assert post(http, f'{upload_dir}{name}').status_code == 403
  route_utils.delete_files_created_by_app(demo, age=None)
  assert not os.path.exists(path)


def test_sizes_are_limited(http, upload_dir, monkeypatch):
  assert upload(http, bytes(conftest.MAX_BYTES + 1)).status_code == 413
  body = b'"' + bytes(limits.MAX_BODY_BYTES) + b'"'
  assert http.post(f'{API}/call/predict', content=body).status_code == 413
  # The size of an upload is declared.
  chunks = (chunk for chunk in [b'12345'])
  assert http.post(f'{API}/upload', content=chunks).status_code == 411
  used = limits.LimitsMiddleware(None, upload_dir=upload_dir)._num_bytes()
  monkeypatch.setattr(limits, 'MAX_TOTAL_BYTES', used + 20_000)
  statuses = {upload(http, bytes([i]) * 8000).status_code for i in range(4)}
  assert statuses == {200, 507}


def test_parts_of_interrupted_uploads_are_deleted(
  http, upload_dir, monkeypatch
):
  part = upload_dir / 'part'  # Gradio writes uploads to files in this folder.
  part.write_bytes(b'12345')
  [complete] = upload(http).json()
  assert part.exists()
  monkeypatch.setattr(limits, 'KEEP_SECONDS', -1)
  assert upload(http).status_code == 200
  assert not part.exists()
  # Gradio's own `delete_cache` deletes this one.
  assert os.path.exists(complete)
