import errno
import os
import pwd
import tempfile

import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import files


@pytest.mark.parametrize('content', ['é\n', b'\xff\x00'])
def test_a_file_is_replaced_without_leftovers(tmp_path, content):
  path = tmp_path / 'file'
  path.write_text('old')
  mode = path.stat().st_mode
  files.write_atomic(path, content)
  expected = content if isinstance(content, bytes) else content.encode()
  assert path.read_bytes() == expected
  assert path.stat().st_mode == mode
  assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(KeyError), files.replace_file(path) as temporary:
    temporary.write_text('ne')
    raise KeyError
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def make_folder(folder, text):
  (folder / 'inner').mkdir(parents=True)
  (folder / 'inner' / 'file').write_text(text)


@pytest.mark.parametrize('is_new', [True, False])
def test_a_folder_is_replaced_without_leftovers(tmp_path, is_new):
  path = tmp_path / 'parent' / 'folder'
  if not is_new:
    make_folder(path, 'old')
    (path / 'other').touch()
  with files.replace_folder(path) as temporary:
    make_folder(temporary, 'new')
    assert (path / 'other').exists() == (not is_new)
  assert [p.name for p in path.iterdir()] == ['inner']
  assert (path / 'inner' / 'file').read_text() == 'new'
  assert list(path.parent.iterdir()) == [path]


def test_an_existing_folder_can_be_kept(tmp_path):
  path = tmp_path / 'folder'
  with files.replace_folder(path, overwrite=False) as temporary:
    make_folder(temporary, 'second')
    make_folder(path, 'first')  # Another process is faster.
  assert (path / 'inner' / 'file').read_text() == 'first'
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('in_block', [True, False])
def test_an_error_leaves_the_old_folder(tmp_path, monkeypatch, in_block):
  path = tmp_path / 'folder'
  make_folder(path, 'old')
  replace = os.replace

  def fail_to_rename(source, target):
    if target == path and not in_block:
      monkeypatch.undo()
      raise KeyError
    replace(source, target)

  monkeypatch.setattr(os, 'replace', fail_to_rename)
  with pytest.raises(KeyError), files.replace_folder(path) as temporary:
    make_folder(temporary, 'new')
    if in_block:
      raise KeyError
  assert (path / 'inner' / 'file').read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, 'No space left on device'),
    OSError(errno.EROFS, os.strerror(errno.EROFS)),
    # From libraries in C++.
    ValueError('RESOURCE_EXHAUSTED: [OS error 28: ENOSPC No space left on'),
  ],
)
def test_errors_of_the_disk_are_storage_errors(tmp_path, error):
  with (
    pytest.raises(errors.StorageError) as raised,
    files.storage_errors(tmp_path),
  ):
    raise error
  assert str(tmp_path) in str(raised.value)
  assert 'the same command again' in str(raised.value)
  assert raised.value.exit_status == 74


def test_other_errors_are_not_converted(tmp_path):
  with pytest.raises(ValueError, match='odd'), files.storage_errors(tmp_path):
    raise ValueError('odd')
  with pytest.raises(errors.InputError), files.storage_errors(tmp_path):
    raise errors.InputError('No space left for jokes')


def test_the_cache_of_a_user_without_a_home_is_temporary(monkeypatch):
  monkeypatch.delenv('HOME', raising=False)
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setattr(pwd, 'getpwuid', {}.__getitem__)
  folder = files.cache_dir()
  assert folder.is_relative_to(tempfile.gettempdir())
  assert folder.parent.is_dir()
  assert files.cache_dir() == folder
