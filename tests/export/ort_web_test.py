"""ONNX Runtime Web is the version that is meant, wherever it comes from."""

import base64
import contextlib
import hashlib
import io
import json
import shutil
import tarfile

import pytest

from genre_flax.export import ort_web
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
  """A small package that stands for the real one, in a registry's folder."""
  path = tmp_path / 'registry/tarballs/onnxruntime-web-1.2.3.tgz'
  path.parent.mkdir(parents=True)
  pack(path, CONTENT)
  digest = hashlib.sha512(path.read_bytes()).digest()
  monkeypatch.setattr(ort_web, '_INTEGRITY', base64.b64encode(digest).decode())
  monkeypatch.setattr(ort_web, 'VERSION', '1.2.3')
  monkeypatch.setattr(
    ort_web,
    '_FILES',
    {name: hashlib.sha256(c).hexdigest() for name, c in CONTENT.items()},
  )
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.setenv('npm_config_cache', str(tmp_path / 'npm'))
  monkeypatch.setenv('npm_config_fetch_retries', '0')
  return path


@contextlib.contextmanager
def serving(tarball, monkeypatch):
  """A registry that has the package, and that npm is set to."""
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
def test_is_fetched_once_from_the_registry_of_npm(
  tarball, tmp_path, monkeypatch
):
  with serving(tarball, monkeypatch):
    assert ort_web.files() == CONTENT
  # The registry is gone now.
  assert ort_web.files() == CONTENT
  kept = tmp_path / 'cache/genre_flax/onnxruntime-web-1.2.3.tgz'
  kept.write_bytes(kept.read_bytes()[:-1])
  with serving(tarball, monkeypatch):
    assert ort_web.files() == CONTENT
  assert kept.read_bytes() == tarball.read_bytes()


@needs_npm
def test_another_content_is_refused(tarball, tmp_path, monkeypatch):
  pack(tarball, {**CONTENT, 'b.wasm': b'other'})
  with (
    serving(tarball, monkeypatch),
    pytest.raises(errors.InputError, match='is not of onnxruntime-web'),
  ):
    ort_web.files()
  assert not (tmp_path / 'cache').exists()
  with pytest.raises(errors.InputError, match='is not of onnxruntime-web'):
    ort_web.files(tarball)


@pytest.mark.parametrize(
  ('path', 'reason'),
  [
    (None, 'npm says .*ECONNREFUSED'),
    ('', 'there is no npm on this machine'),
  ],
)
def test_what_cannot_be_fetched_says_what_to_type(
  tarball, monkeypatch, path, reason
):
  monkeypatch.setenv('npm_config_registry', 'http://127.0.0.1:9')
  if path is not None:
    monkeypatch.setenv('PATH', path)
  elif shutil.which('npm') is None:
    pytest.skip('npm is not installed')
  with pytest.raises(
    errors.ResourceError,
    match=f'{reason}.*npm pack onnxruntime-web@1\\.2\\.3.*--ort_web',
  ):
    ort_web.files()


def test_a_copy_that_is_there_is_taken(tarball, tmp_path):
  assert ort_web.files(tarball) == CONTENT
  folder = tmp_path / 'node_modules/onnxruntime-web'
  with tarfile.open(tarball) as archive:
    archive.extractall(folder, filter='data')
  assert ort_web.files(folder) == CONTENT
  assert ort_web.files(folder / 'package') == CONTENT
  (folder / 'package/dist/b.wasm').write_bytes(b'other')
  with pytest.raises(errors.InputError, match='dist/b.wasm is not of'):
    ort_web.files(folder)
  with pytest.raises(errors.InputError, match='cannot be read'):
    ort_web.files(tmp_path / 'nothing.tgz')
