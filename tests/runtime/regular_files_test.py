import os
import socket

from etils import epath
import pytest

from genre_flax.runtime import regular_files


def read(path, max_bytes=100):
  return regular_files.read(epath.Path(path), max_bytes=max_bytes)


def kind_of_error(path):
  with pytest.raises(regular_files.NotReadableError) as error:
    read(path)
  return error.value.kind


def test_files_up_to_the_maximum_size_are_read(tmp_path):
  (tmp_path / 'a').write_bytes(b'x' * 100)
  (tmp_path / 'link').symlink_to(tmp_path / 'a')
  assert read(tmp_path / 'a') == read(tmp_path / 'link') == b'x' * 100
  (tmp_path / 'a').write_bytes(b'x' * 101)
  assert kind_of_error(tmp_path / 'a') == regular_files.TOO_LARGE


def test_a_file_larger_than_its_reported_size_is_unreadable():
  path = '/proc/self/maps'  # Reports 0 bytes and has thousands.
  if not os.path.exists(path):
    pytest.skip('requires Linux')
  assert kind_of_error(path) == regular_files.UNREADABLE


def test_pipes_devices_sockets_and_folders_are_not_files(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  (tmp_path / 'zero').symlink_to('/dev/zero')
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(str(tmp_path / 'socket'))
    for name in ('pipe', 'zero', 'socket', '.'):
      assert kind_of_error(tmp_path / name) == regular_files.NOT_A_FILE


def test_missing_files_invalid_names_and_link_loops(tmp_path):
  (tmp_path / 'a').write_bytes(b'')
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  for name in ('none', 'a/b'):
    assert kind_of_error(tmp_path / name) == regular_files.MISSING
  for name in ('x' * 300, 'a\0b', 'loop'):
    assert kind_of_error(tmp_path / name) == regular_files.UNREADABLE
