import os
import signal
import subprocess
import sys

from etils import epath
import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import lock
from tests.support import paths

HOLD = """
import sys, time
from genre_flax.runtime import lock
with lock.hold(sys.argv[1], 'busy'):
  print('held', flush=True)
  time.sleep(60)
"""


def test_a_second_holder_is_refused_with_the_process_id_of_the_first(tmp_path):
  path = tmp_path / 'new' / 'lock'
  with (
    lock.hold(path, ''),
    pytest.raises(errors.BusyError, match=f'{{a}}: {os.getpid()} has it'),
    lock.hold(path, '{a}: {pid} has it'),
  ):
    pass
  with lock.hold(path, ''):  # Released.
    pass


def test_a_killed_process_releases_its_lock(tmp_path):
  path = tmp_path / 'lock'
  with subprocess.Popen(
    [sys.executable, '-c', HOLD, str(path)],
    cwd=paths.ROOT,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == 'held\n'
    with (
      pytest.raises(errors.BusyError, match=str(process.pid)),
      lock.hold(path, '{pid}'),
    ):
      pass
    os.kill(process.pid, signal.SIGKILL)
  with lock.hold(path, ''):
    pass


def test_a_folder_that_cannot_be_created_is_a_storage_error(tmp_path):
  (tmp_path / 'file').write_text('')
  with (
    pytest.raises(errors.StorageError, match='file/lock'),
    lock.hold(tmp_path / 'file' / 'lock', ''),
  ):
    pass


def test_cloud_storage_is_not_locked():
  path = epath.Path('gs://bucket/lock')
  with lock.hold(path, ''), lock.hold(path, ''):
    pass
