"""Full, read-only and vanishing disks: an error by name, nothing lost."""

import contextlib
import shutil
import subprocess
import time

import pytest

from genre_flax.datasets.posters import synthetic
from tests.faults import outcomes as outcomes_lib
from tests.faults import runs
from tests.support import binaries

pytestmark = pytest.mark.slow
GROUP = 'full and forbidden disks'
STORAGE = 74
NAMED = 'an error by name, then gone on with'


@pytest.fixture
def disk(tmp_path):
  """A disk of sixteen megabytes; it takes root to mount one."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  command = ['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', str(folder)]
  try:
    done = subprocess.run(command, capture_output=True, check=False)
  except FileNotFoundError:
    pytest.skip('there is no mount')
  if done.returncode:
    pytest.skip(f'no disk can be mounted: {done.stderr.decode().strip()}')
  yield folder
  subprocess.run(['umount', '-l', str(folder)], check=True)


@contextlib.contextmanager
def filled(disk, room):
  """Leaves so many bytes of room."""
  filler = disk / 'filler'
  free = shutil.disk_usage(disk).free
  with filler.open('wb') as file, contextlib.suppress(OSError):
    file.write(b'x' * (free - room))
  yield
  filler.unlink()


def assert_told(done, *words):
  """A message by name, without a traceback."""
  assert done.returncode == STORAGE, done.stdout + done.stderr
  assert 'Traceback' not in done.stderr
  assert 'error: ' in done.stderr
  for word in words:
    assert word in done.stderr


def run_to_the_end(workdir, data_dir):
  done = binaries.run(*runs.training(workdir, data_dir))
  assert done.returncode == 0, done.stderr
  return runs.outcome(workdir)


def test_a_training_whose_checkpoint_finds_no_room(data_dir, disk):
  with filled(disk, 150_000):
    done = binaries.run(*runs.training(disk / 'run', data_dir))
    assert_told(done, 'No space left', str(disk / 'run'))
    runs.assert_all_whole(disk / 'run')


@pytest.mark.drill
def test_a_training_on_a_full_disk(data_dir, disk, tmp_path):
  outcomes = outcomes_lib.Outcomes('a training, no room left', group=GROUP)
  expected = run_to_the_end(tmp_path / 'expected', data_dir)
  for room in (0, 4096, 20_000, 60_000, 100_000, 200_000, 300_000, 500_000):
    workdir = disk / f'run{room}'
    arguments = runs.training(workdir, data_dir, '--config.tensorboard=True')
    with filled(disk, room):
      done = binaries.run(*arguments)
    if done.returncode:
      assert_told(done, 'No space left', str(workdir))
    runs.assert_all_whole(workdir)
    again = binaries.run(*arguments)
    assert again.returncode == 0, again.stderr
    runs.assert_same_outcome(workdir, expected)
    outcomes[NAMED if done.returncode else 'there was room'] += 1
    shutil.rmtree(workdir)
  outcomes.done()
  assert outcomes[NAMED]


@pytest.mark.drill
def test_a_training_on_a_read_only_disk(data_dir, disk):
  outcomes = outcomes_lib.Outcomes('a training, read-only', group=GROUP)
  arguments = runs.training(disk / 'run', data_dir)
  mount = ('mount', '-o')
  subprocess.run([*mount, 'remount,ro', str(disk)], check=True)
  done = binaries.run(*arguments)
  assert_told(done, 'Read-only file system')
  subprocess.run([*mount, 'remount,rw', str(disk)], check=True)
  again = binaries.run(*arguments)
  assert again.returncode == 0, again.stderr
  outcomes[NAMED] += 1
  outcomes.done()


@pytest.mark.drill
def test_a_workdir_that_vanishes(data_dir, tmp_path):
  outcomes = outcomes_lib.Outcomes('a training, its folder gone', group=GROUP)
  workdir = tmp_path / 'run'
  arguments = runs.training(workdir, data_dir, '--config.num_train_steps=2000')
  process = binaries.start(*arguments)
  end = time.monotonic() + 60
  while not (workdir / 'checkpoints' / '4').exists():
    assert time.monotonic() < end
    time.sleep(0.05)
  shutil.rmtree(workdir, ignore_errors=True)
  output, _ = process.communicate(timeout=120)
  assert process.returncode == STORAGE, output
  assert 'Traceback' not in output
  assert 'cannot be written: ' in output
  outcomes['an error by name'] += 1
  outcomes.done()


@pytest.mark.parametrize(
  'rooms',
  [
    (500_000,),
    pytest.param(
      (0, 4096, 100_000, 700_000, 1_400_000), marks=pytest.mark.drill
    ),
  ],
)
def test_prepare_on_a_full_disk(disk, rooms):
  outcomes = outcomes_lib.Outcomes('`prepare`, no room left', group=GROUP)
  flags = ('prepare', '--synthetic=60')
  for room in rooms:
    data_dir = f'--data_dir={disk / f"data{room}"}'
    with filled(disk, room):
      done = binaries.run(*flags, data_dir)
      assert_told(done, 'cannot be written')
      assert not list((disk / f'data{room}').glob('posters/*'))
    assert binaries.run(*flags, data_dir).returncode == 0
    verified = binaries.run('prepare', '--verify', data_dir)
    assert verified.returncode == 0, verified.stderr
    shutil.rmtree(disk / f'data{room}')
    outcomes[NAMED] += 1
  outcomes.done()


@pytest.mark.drill
def test_the_caches_on_a_full_disk(data_dir, disk, tmp_path):
  outcomes = outcomes_lib.Outcomes('the decoded cache, no room', group=GROUP)
  arguments = runs.training(
    tmp_path / 'run',
    data_dir,
    '--config.dataset.cache=disk',
    f'--config.dataset.cache_dir={disk / "cache"}',
  )
  with filled(disk, 50_000):
    done = binaries.run(*arguments)
    assert done.returncode == 2
    assert 'are free' in done.stderr
    assert 'Traceback' not in done.stderr
  again = binaries.run(*arguments)
  assert again.returncode == 0, again.stderr
  expected = run_to_the_end(tmp_path / 'expected', data_dir)
  runs.assert_same_outcome(tmp_path / 'run', expected)
  outcomes['refused by name before it begins'] += 1
  outcomes.done()


@pytest.mark.drill
def test_predictions_on_a_full_disk(data_dir, disk, tmp_path):
  outcomes = outcomes_lib.Outcomes('`top3 --output`, no room', group=GROUP)
  done = binaries.run(*runs.training(tmp_path / 'run', data_dir))
  assert done.returncode == 0, done.stderr
  _, folder = synthetic.write_posters(tmp_path / 'posters', num_posters=150)
  flags = ('top3', f'--workdir={tmp_path / "run"}', '--batch_size=4', folder)
  plain = binaries.run(*flags, f'--output={tmp_path / "plain"}')
  assert plain.returncode == 0, plain.stderr
  flags = (*flags, f'--output={disk / "out"}')
  for room in (0, 9000, 16_000, 60_000):
    with filled(disk, room):
      done = binaries.run(*flags)
      assert_told(done, 'No space left')
      outcomes[NAMED] += 1
  done = binaries.run(*flags)
  assert done.returncode == 0, done.stderr
  assert (disk / 'out' / 'predictions.csv').read_bytes() == (
    tmp_path / 'plain' / 'predictions.csv'
  ).read_bytes()
  outcomes.done()
