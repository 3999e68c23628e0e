import os
import socket

from etils import epath
import pytest

from genre_flax.runtime import regular_files


def read(path, max_bytes=100):
  return regular_files.read(epath.Path(path), max_bytes=max_bytes)


def kind_of(path, **options):
  with pytest.raises(regular_files.NotReadableError) as error:
    read(path, **options)
  return error.value.kind


def test_a_file_up_to_the_limit_is_read(tmp_path):
  (tmp_path / 'a').write_bytes(b'x' * 100)
  assert read(tmp_path / 'a') == b'x' * 100
  (tmp_path / 'link').symlink_to(tmp_path / 'a')
  assert read(tmp_path / 'link') == b'x' * 100


def test_a_larger_one_is_not(tmp_path):
  (tmp_path / 'a').write_bytes(b'x' * 101)
  assert kind_of(tmp_path / 'a') == regular_files.TOO_LARGE


def test_what_says_it_is_empty_and_is_not_is_not_read_on():
  # Its size is told as 0, and it has thousands of bytes.
  path = '/proc/self/maps'
  if not os.path.exists(path):
    pytest.skip('only Linux has such files')
  assert kind_of(path) == regular_files.UNREADABLE


def test_pipes_devices_sockets_and_folders_are_no_files(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'zero').symlink_to('/dev/zero')
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(str(tmp_path / 'socket'))
    for name in ('pipe', 'zero', 'socket', '.'):
      assert kind_of(tmp_path / name) == regular_files.NOT_A_FILE


@pytest.mark.parametrize('name', ['none', 'a/b', 'gone'])
def test_what_is_not_there_is_missing(tmp_path, name):
  (tmp_path / 'a').write_bytes(b'')
  (tmp_path / 'gone').symlink_to(tmp_path / 'nowhere')
  assert kind_of(tmp_path / name) == regular_files.MISSING


@pytest.mark.parametrize('name', ['x' * 300, 'a\0b'])
def test_names_that_no_file_can_have_are_unreadable(tmp_path, name):
  assert kind_of(tmp_path / name) == regular_files.UNREADABLE


def test_a_loop_of_links_is_unreadable(tmp_path):
  (tmp_path / 'a').symlink_to(tmp_path / 'b')
  (tmp_path / 'b').symlink_to(tmp_path / 'a')
  assert kind_of(tmp_path / 'a') == regular_files.UNREADABLE
