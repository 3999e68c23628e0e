"""Full, read-only and deleted disks: an error with the path, and no loss."""

import contextlib
import shutil
import subprocess
import time

import pytest

from genre_flax.datasets.posters import synthetic
from genre_flax.runtime import errors
from tests.faults import trainings
from tests.support import programs

pytestmark = pytest.mark.slow
LONG = pytest.mark.fault_injection


@pytest.fixture
def disk(tmp_path):
  """A disk of 16 MB; mounting one requires root."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  command = ['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', str(folder)]
  try:
    done = subprocess.run(command, capture_output=True, check=False)
  except FileNotFoundError:
    pytest.skip('mount is unavailable')
  if done.returncode:
    pytest.skip(f'cannot mount a disk: {done.stderr.decode().strip()}')
  yield folder
  subprocess.run(['umount', '-l', str(folder)], check=True)


@contextlib.contextmanager
def filled(disk, free_bytes):
  """Fills a disk except for some bytes."""
  filler = disk / 'filler'
  free = shutil.disk_usage(disk).free
  with filler.open('wb') as file, contextlib.suppress(OSError):
    file.write(b'x' * (free - free_bytes))
  yield
  filler.unlink()


def assert_storage_error(done, *words):
  assert done.returncode == errors.StorageError.exit_status, done.stderr
  assert 'Traceback' not in done.stderr
  assert 'error: ' in done.stderr
  for word in words:
    assert word in done.stderr


@pytest.fixture
def expected(data_dir, tmp_path):
  trainings.run(*trainings.training(tmp_path / 'expected', data_dir))
  return trainings.outcome(tmp_path / 'expected')


def test_checkpoint_on_full_disk(data_dir, disk):
  with filled(disk, 150_000):
    done = programs.run(*trainings.training(disk / 'run', data_dir))
    assert_storage_error(done, 'No space left', str(disk / 'run'))
    trainings.assert_complete(disk / 'run')


@LONG
def test_training_on_full_disk(data_dir, disk, expected):
  num_failed = 0
  for room in (0, 4096, 20_000, 60_000, 100_000, 200_000, 300_000, 500_000):
    workdir = disk / f'run{room}'
    arguments = trainings.training(
      workdir, data_dir, '--config.tensorboard=True'
    )
    with filled(disk, room):
      done = programs.run(*arguments)
    if done.returncode:
      assert_storage_error(done, 'No space left', str(workdir))
      num_failed += 1
    trainings.assert_complete(workdir)
    trainings.run(*arguments)
    trainings.assert_same_outcome(workdir, expected)
    shutil.rmtree(workdir)
  assert num_failed


@LONG
def test_training_on_read_only_disk(data_dir, disk):
  arguments = trainings.training(disk / 'run', data_dir)
  remount = ('mount', '-o')
  subprocess.run([*remount, 'remount,ro', str(disk)], check=True)
  assert_storage_error(programs.run(*arguments), 'Read-only file system')
  subprocess.run([*remount, 'remount,rw', str(disk)], check=True)
  trainings.run(*arguments)


@LONG
def test_deleted_workdir(data_dir, tmp_path):
  workdir = tmp_path / 'run'
  process = programs.start(
    *trainings.training(workdir, data_dir, '--config.num_train_steps=2000')
  )
  end = time.monotonic() + 60
  while not (workdir / 'checkpoints' / '4').exists():
    assert time.monotonic() < end
    time.sleep(0.05)
  shutil.rmtree(workdir, ignore_errors=True)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == errors.StorageError.exit_status, output
  assert 'Traceback' not in output
  assert 'cannot be written: ' in output


@trainings.short_and_long(
  'rooms', (500_000,), (0, 4096, 100_000, 700_000, 1_400_000)
)
def test_prepare_on_full_disk(disk, rooms):
  for room in rooms:
    folder = disk / f'data{room}'
    flags = ('prepare', f'--data_dir={folder}')
    with filled(disk, room):
      done = programs.run(*flags, '--synthetic=60')
      assert_storage_error(done, 'cannot be written')
      assert not list(folder.glob('posters/*'))
    trainings.run(*flags, '--synthetic=60')
    trainings.run(*flags, '--verify')
    shutil.rmtree(folder)


@LONG
def test_image_cache_on_full_disk(data_dir, disk, tmp_path, expected):
  arguments = trainings.training(
    tmp_path / 'run',
    data_dir,
    '--config.dataset.cache=disk',
    f'--config.dataset.cache_dir={disk / "cache"}',
  )
  with filled(disk, 50_000):
    done = programs.run(*arguments)
    assert done.returncode == errors.InputError.exit_status
    assert 'are free' in done.stderr
    assert 'Traceback' not in done.stderr
  trainings.run(*arguments)
  trainings.assert_same_outcome(tmp_path / 'run', expected)


@LONG
def test_predictions_on_full_disk(data_dir, disk, tmp_path):
  trainings.run(*trainings.training(tmp_path / 'run', data_dir))
  _, folder = synthetic.write_posters(tmp_path / 'posters', num_posters=150)
  flags = ('top3', f'--workdir={tmp_path / "run"}', '--batch_size=4', folder)
  trainings.run(*flags, f'--output={tmp_path / "expected"}')
  flags = (*flags, f'--output={disk / "out"}')
  for room in (0, 9000, 16_000, 60_000):
    with filled(disk, room):
      assert_storage_error(programs.run(*flags), 'No space left')
  trainings.run(*flags)
  assert (disk / 'out' / 'predictions.csv').read_bytes() == (
    tmp_path / 'expected' / 'predictions.csv'
  ).read_bytes()
