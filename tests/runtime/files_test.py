import errno
import os
import stat

from etils import epath
import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import files


def test_a_local_path_is_not_remote(tmp_path):
  assert not files.is_remote(tmp_path)
  assert files.is_remote(epath.Path('gs://bucket/x'))


@pytest.mark.parametrize('content', ['é\n', b'\xff\x00'])
def test_a_file_is_written_whole_and_nothing_beside_it(tmp_path, content):
  path = tmp_path / 'file'
  path.write_text('old')
  files.write_whole(path, content)
  expected = content if isinstance(content, bytes) else content.encode()
  assert path.read_bytes() == expected
  assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_rights_that_others_have(tmp_path):
  files.write_whole(tmp_path / 'a', 'x')
  (tmp_path / 'b').write_text('x')
  modes = [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in 'ab']
  assert modes[0] == modes[1]


def test_what_fails_leaves_the_old_file(tmp_path):
  path = tmp_path / 'file'
  path.write_text('old')
  with pytest.raises(KeyError), files.replacing(path) as beside:
    beside.write_text('ne')
    raise KeyError
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_gone_is_the_storages_fault(tmp_path):
  with pytest.raises(errors.StorageError, match='gone/file.*No such file'):
    files.write_whole(tmp_path / 'gone' / 'file', 'x')


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, 'No space left on device'),
    OSError(errno.EROFS, os.strerror(errno.EROFS)),
    # As libraries in C++ say it.
    ValueError('RESOURCE_EXHAUSTED: [OS error 28: ENOSPC No space left on'),
  ],
)
def test_a_full_or_read_only_disk_is_explained(tmp_path, error):
  with pytest.raises(errors.StorageError) as raised, files.explaining(tmp_path):
    raise error
  assert str(tmp_path) in str(raised.value)
  assert 'the same command again' in str(raised.value)
  assert raised.value.exit_status == 74


def test_other_errors_stay_what_they_are(tmp_path):
  with pytest.raises(ValueError, match='odd'), files.explaining(tmp_path):
    raise ValueError('odd')
  with pytest.raises(errors.InputError), files.explaining(tmp_path):
    raise errors.InputError('No space left for jokes')
