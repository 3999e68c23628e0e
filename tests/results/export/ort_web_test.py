"""ONNX Runtime Web is the version that is meant, wherever it comes from."""

import base64
import hashlib
import io
import tarfile

import pytest

from genre_flax.results.export import ort_web
from genre_flax.runtime import errors
from tests.support import browser

CONTENT = {'a.mjs': b'export {}', 'b.wasm': b'\0asm'}


@pytest.fixture
def tarball(tmp_path, monkeypatch):
  """A small package that stands for the real one, in a registry's folder."""
  path = tmp_path / 'registry/onnxruntime-web/-/onnxruntime-web-1.2.3.tgz'
  path.parent.mkdir(parents=True)
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in CONTENT.items():
      member = tarfile.TarInfo(f'package/dist/{name}')
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))
  digest = hashlib.sha512(path.read_bytes()).digest()
  monkeypatch.setattr(ort_web, '_INTEGRITY', base64.b64encode(digest).decode())
  monkeypatch.setattr(ort_web, 'VERSION', '1.2.3')
  monkeypatch.setattr(
    ort_web,
    '_FILES',
    {name: hashlib.sha256(c).hexdigest() for name, c in CONTENT.items()},
  )
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return path


def test_is_fetched_once_from_the_registry_that_is_named(
  tarball, tmp_path, monkeypatch
):
  with browser.serving(tmp_path / 'registry') as address:
    monkeypatch.setenv('npm_config_registry', f'{address}/')
    assert ort_web.files() == CONTENT
  # The registry is gone now.
  assert ort_web.files() == CONTENT
  kept = tmp_path / 'cache/genre_flax/onnxruntime-web-1.2.3.tgz'
  kept.write_bytes(kept.read_bytes()[:-1])
  with browser.serving(tmp_path / 'registry') as address:
    monkeypatch.setenv('npm_config_registry', address)
    assert ort_web.files() == CONTENT
  assert kept.read_bytes() == tarball.read_bytes()


def test_another_content_is_refused(tarball, tmp_path, monkeypatch):
  tarball.write_bytes(tarball.read_bytes() + b'x')
  with browser.serving(tmp_path / 'registry') as address:
    monkeypatch.setenv('npm_config_registry', address)
    with pytest.raises(errors.InputError, match='is not of onnxruntime-web'):
      ort_web.files()
  assert not (tmp_path / 'cache').exists()
  with pytest.raises(errors.InputError, match='is not of onnxruntime-web'):
    ort_web.files(tarball)


@pytest.mark.parametrize(
  'registry', ['http://127.0.0.1:9', 'file:///', 'http://127.0.0.1:9999999']
)
def test_without_a_registry_it_says_what_to_type(
  tarball, monkeypatch, registry
):
  monkeypatch.setenv('npm_config_registry', registry)
  with pytest.raises(
    errors.ResourceError, match=r'npm pack onnxruntime-web@1\.2\.3.*--ort_web'
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
