"""ONNX Runtime Web is the pinned version, from any source."""

import base64
import contextlib
import hashlib
import io
import json
import shutil
import tarfile

import pytest

pytest.importorskip(
  'huggingface_hub', reason='huggingface_hub is not installed (5 MB)'
)

from genre_flax.export import web_export
from genre_flax.runtime import errors
from tests.support import browser

CONTENT = {'a.mjs': b'export {}', 'b.wasm': b'\0asm'}

needs_npm = pytest.mark.skipif(
  shutil.which('npm') is None, reason='npm is not installed'
)


def pack(path, contents):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in contents.items():
      member = tarfile.TarInfo(f'package/dist/{name}')
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def tarball(tmp_path, monkeypatch):
  """A small package in place of the real one, in the folder of a registry."""
  path = tmp_path / 'registry/tarballs/onnxruntime-web-1.2.3.tgz'
  path.parent.mkdir(parents=True)
  pack(path, CONTENT)
  checksum = hashlib.sha512(path.read_bytes()).digest()
  monkeypatch.setattr(
    web_export, '_INTEGRITY', base64.b64encode(checksum).decode()
  )
  monkeypatch.setattr(web_export, 'VERSION', '1.2.3')
  monkeypatch.setattr(web_export, '_RUNTIME_FILES', tuple(CONTENT))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setenv('npm_config_cache', str(tmp_path / 'npm'))
  monkeypatch.setenv('npm_config_fetch_retries', '0')
  return path


@contextlib.contextmanager
def serving(tarball, monkeypatch):
  """Serves the package from a registry that npm is configured for."""
  registry = tarball.parent.parent
  with browser.serving(registry) as address:
    package = {
      'name': 'onnxruntime-web',
      'version': '1.2.3',
      'dist': {'tarball': f'{address}/tarballs/{tarball.name}'},
    }
    described = {
      'name': 'onnxruntime-web',
      'dist-tags': {'latest': '1.2.3'},
      'versions': {'1.2.3': package},
    }
    (registry / 'onnxruntime-web').write_text(json.dumps(described))
    monkeypatch.setenv('npm_config_registry', address)
    yield


@needs_npm
def test_package_is_downloaded_once(tarball, tmp_path, monkeypatch):
  with serving(tarball, monkeypatch):
    assert web_export.runtime_files() == CONTENT
  # Without the registry.
  assert web_export.runtime_files() == CONTENT
  cached = tmp_path / 'cache/genre_flax/onnxruntime-web-1.2.3.tgz'
  cached.write_bytes(cached.read_bytes()[:-1])
  with serving(tarball, monkeypatch):
    assert web_export.runtime_files() == CONTENT
  assert cached.read_bytes() == tarball.read_bytes()


@needs_npm
def test_other_content_is_refused(tarball, tmp_path, monkeypatch):
  pack(tarball, {**CONTENT, 'b.wasm': b'other'})
  message = 'is not the tarball of onnxruntime-web'
  with (
    serving(tarball, monkeypatch),
    pytest.raises(errors.InputError, match=message),
  ):
    web_export.runtime_files()
  assert not (tmp_path / 'cache').exists()
  with pytest.raises(errors.InputError, match=message):
    web_export.runtime_files(tarball)


@pytest.mark.parametrize(
  ('path', 'reason'),
  [
    pytest.param(None, '.*ECONNREFUSED', marks=needs_npm),
    ('', 'npm is not installed'),
  ],
)
def test_failed_download_names_the_remedy(tarball, monkeypatch, path, reason):
  monkeypatch.setenv('npm_config_registry', 'http://127.0.0.1:9')
  if path is not None:
    monkeypatch.setenv('PATH', path)
  with pytest.raises(
    errors.ResourceError,
    match=f'{reason}.*npm pack onnxruntime-web@1\\.2\\.3.*--ort_web',
  ):
    web_export.runtime_files()


def test_local_tarball(tarball, tmp_path):
  assert web_export.runtime_files(tarball) == CONTENT
  with pytest.raises(errors.InputError, match='cannot be read'):
    web_export.runtime_files(tmp_path / 'missing.tgz')
