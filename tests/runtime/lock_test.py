import subprocess
import sys

from etils import epath
import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import lock
from tests.support import cloud
from tests.support import paths

HOLD = """
import sys, time
from genre_flax.runtime import lock
with lock.hold(sys.argv[1], 'busy'):
  print('held', flush=True)
  time.sleep(60)
"""


def test_another_holder_is_refused_until_the_process_is_killed(tmp_path):
  path = tmp_path / 'new' / 'lock'
  with subprocess.Popen(
    [sys.executable, '-c', HOLD, str(path)],
    cwd=paths.ROOT,
    stdout=subprocess.PIPE,
    text=True,
  ) as process:
    assert process.stdout.readline() == 'held\n'
    with (
      pytest.raises(errors.BusyError, match=f'{{a}}: {process.pid} has it'),
      lock.hold(path, '{a}: {pid} has it'),
    ):
      pass
    assert lock.is_held(path)
    process.kill()
  for _ in range(2):  # The first block releases it, too.
    with lock.hold(path, ''):
      pass
  assert not lock.is_held(path)
  assert not lock.is_held(tmp_path / 'missing')


def test_cloud_storage_is_locked_by_an_object(monkeypatch):
  storage = cloud.install(monkeypatch)
  path = epath.Path('gs://bucket/run/.lock')
  with lock.hold(path, ''):
    assert storage.ls('/bucket/run/.lock', detail=False) == [
      '/bucket/run/.lock/1'
    ]
  assert not storage.find('/bucket')
