"""ONNX Runtime Web is the pinned version, from any source."""

import base64
import hashlib
import io
import os
import tarfile

import pytest

pytest.importorskip(
  'huggingface_hub', reason='huggingface_hub is not installed (5 MB)'
)

from genre_flax.export import web_export
from genre_flax.runtime import errors

CONTENT = {'a.mjs': b'export {}', 'b.wasm': b'\0asm'}
REFUSED = 'is not the tarball of onnxruntime-web 1.2.3'


def pack(path, contents):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in contents.items():
      member = tarfile.TarInfo(f'package/dist/{name}')
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def tarball(tmp_path, monkeypatch):
  """A small package in place of the real one."""
  path = tmp_path / 'package.tgz'
  pack(path, CONTENT)
  checksum = base64.b64encode(hashlib.sha512(path.read_bytes()).digest())
  monkeypatch.setattr(web_export, '_INTEGRITY', checksum.decode())
  monkeypatch.setattr(web_export, 'VERSION', '1.2.3')
  monkeypatch.setattr(web_export, '_RUNTIME_FILES', tuple(CONTENT))
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return path


@pytest.fixture
def set_npm(tmp_path, monkeypatch):
  """Puts a shell script, or nothing, in the place of npm."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')

  def set_npm(script):
    (folder / 'npm').write_text(f'#!/bin/sh\n{script}\n')
    (folder / 'npm').chmod(0o755)

  return set_npm


def test_package_is_downloaded_once(tarball, set_npm, tmp_path):
  words = 'pack onnxruntime-web@1.2.3 --pack-destination'
  download = f'test "$1 $2 $3" = "{words}" && cp {tarball} "$4"'
  set_npm(download)
  assert web_export.runtime_files() == CONTENT
  set_npm('exit 1')
  assert web_export.runtime_files() == CONTENT
  assert web_export.runtime_files(tarball) == CONTENT
  cached = tmp_path / 'cache/genre_flax/onnxruntime-web-1.2.3.tgz'
  cached.write_bytes(cached.read_bytes()[:-1])
  set_npm(download)
  assert web_export.runtime_files() == CONTENT
  assert cached.read_bytes() == tarball.read_bytes()


def test_other_content_is_refused(tarball, set_npm, tmp_path):
  pack(tarball, {**CONTENT, 'b.wasm': b'other'})
  set_npm(f'cp {tarball} "$4"')
  with pytest.raises(errors.InputError, match=REFUSED):
    web_export.runtime_files()
  assert not (tmp_path / 'cache').exists()
  with pytest.raises(errors.InputError, match=REFUSED):
    web_export.runtime_files(tarball)
  with pytest.raises(errors.InputError, match='cannot be read'):
    web_export.runtime_files(tmp_path / 'missing.tgz')


def test_failed_download_names_the_remedy(tarball, set_npm, monkeypatch):
  remedy = 'npm pack onnxruntime-web@1\\.2\\.3.*--ort_web'
  set_npm('echo "npm error code E1\nnpm error No network" >&2; exit 1')
  with pytest.raises(errors.ResourceError, match=f': No network.*{remedy}'):
    web_export.runtime_files()
  monkeypatch.setenv('PATH', '')
  with pytest.raises(errors.ResourceError, match=f'not installed.*{remedy}'):
    web_export.runtime_files()
