"""SIGKILL at any time: same results, no partial files or orphans."""

import concurrent.futures
import csv
import random
import time

import pytest

from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.runtime import errors
from tests.faults import trainings
from tests.launch import run_test
from tests.launch import sweep_test
from tests.support import programs

pytestmark = pytest.mark.slow
LONG = pytest.mark.fault_injection


def kill_times(number, seconds):
  """Times spread over a duration, in random order."""
  times = [(place + 0.5) * seconds / number for place in range(number)]
  random.Random(0).shuffle(times)
  return times


def timed_run(*arguments):
  started = time.monotonic()
  trainings.run(*arguments)
  return time.monotonic() - started


@pytest.fixture(scope='module')
def expected(data_dir, tmp_path_factory):
  """The outcome of an uninterrupted training, and its seconds."""
  workdir = tmp_path_factory.mktemp('expected')
  trainings.run(*trainings.training(workdir / 'warm_up', data_dir))
  seconds = timed_run(*trainings.training(workdir / 'run', data_dir))
  return trainings.outcome(workdir / 'run'), seconds


@trainings.short_and_long(('num_runs', 'num_kills'), (1, 1), (10, 5))
def test_training(data_dir, expected, tmp_path, num_runs, num_kills):
  outcome, seconds = expected
  times = kill_times(num_runs * num_kills, seconds)
  for number in range(num_runs):
    workdir = tmp_path / str(number)
    module, *arguments = trainings.training(workdir, data_dir)
    for kill_time in times[number * num_kills : (number + 1) * num_kills]:
      process = trainings.start(f'genre_flax.{module}', *arguments)
      trainings.kill_after(kill_time, process)
      trainings.assert_complete(workdir)
    trainings.run(module, *arguments)
    trainings.assert_same_outcome(workdir, outcome)
    assert not trainings.running(workdir)


def start_two(arguments):
  address = programs.free_address()
  return [
    trainings.start(
      f'genre_flax.{arguments[0]}',
      *arguments[1:],
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES=2,
      JAX_PROCESS_ID=number,
    )
    for number in range(2)
  ]


@LONG
def test_training_of_two_processes(data_dir, tmp_path):
  started = time.monotonic()
  processes = start_two(trainings.training(tmp_path / 'expected', data_dir))
  assert [process.wait(120) for process in processes] == [0, 0]
  seconds = time.monotonic() - started
  outcome = trainings.outcome(tmp_path / 'expected')
  arguments = trainings.training(tmp_path / 'run', data_dir)
  for number, kill_time in enumerate(kill_times(12, seconds)):
    processes = start_two(arguments)
    first = number % 2
    trainings.kill_after(kill_time, processes[first])
    trainings.kill_after(0.0, processes[1 - first])
    trainings.assert_complete(tmp_path / 'run')
  processes = start_two(arguments)
  assert [process.wait(120) for process in processes] == [0, 0]
  trainings.assert_same_outcome(tmp_path / 'run', outcome)


@LONG
def test_prepare(tmp_path):
  expected, data_dir = tmp_path / 'expected', tmp_path / 'data'
  flags = ('prepare', '--synthetic=600')
  seconds = timed_run(*flags, f'--data_dir={expected}')
  card = storage.read_card(expected)
  flags = (*flags, f'--data_dir={data_dir}')
  for kill_time in kill_times(10, seconds):
    process = trainings.start(
      f'genre_flax.{flags[0]}', *flags[1:], '--overwrite'
    )
    trainings.kill_after(kill_time, process)
    try:
      assert storage.open_dataset(data_dir).card == card
    except errors.InputError as e:
      assert 'contains no prepared dataset' in str(e)
  trainings.run(*flags)
  trainings.run('prepare', '--verify', f'--data_dir={data_dir}')
  assert storage.open_dataset(data_dir).card == card
  assert [p.name for p in (data_dir / 'posters').iterdir()] == ['1.0.0']


@LONG
@pytest.mark.usefixtures('expected')  # It fills the compilation cache.
def test_predictions(data_dir, tmp_path):
  trainings.run(*trainings.training(tmp_path / 'run', data_dir))
  _, folder = synthetic.write_posters(tmp_path / 'posters', num_posters=200)
  flags = ('top3', f'--workdir={tmp_path / "run"}', '--batch_size=1', folder)
  seconds = timed_run(*flags, f'--output={tmp_path / "expected"}')
  expected_rows = (tmp_path / 'expected' / 'predictions.csv').read_bytes()
  output = tmp_path / 'out'
  flags = (*flags, f'--output={output}')
  partial = output / 'predictions.partial.csv'
  for kill_time in sorted(kill_times(10, seconds), reverse=True):
    process = trainings.start(f'genre_flax.{flags[0]}', *flags[1:])
    trainings.kill_after(kill_time, process)
    if partial.exists():
      rows = partial.read_bytes()
      assert expected_rows.startswith(rows[: rows.rindex(b'\n') + 1])
  trainings.run(*flags)
  assert (output / 'predictions.csv').read_bytes() == expected_rows
  assert not partial.exists()


@trainings.short_and_long('num_kills', 1, 10)
def test_launcher(data_dir, expected, tmp_path, num_kills):
  outcome, seconds = expected
  for number, kill_time in enumerate(kill_times(num_kills, seconds + 1)):
    folder = tmp_path / str(number)
    arguments = trainings.training(folder / 'run', data_dir)[1:]
    flags = ('--engine=local', '--name=kills', '--')
    process = trainings.start('launch.run', *flags, *arguments)
    trainings.kill_after(kill_time, process)
    # The training saves and stops when its launcher is killed.
    trainings.wait_until_none(folder)
    done = run_test.launch(*flags, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    trainings.wait_until_none(folder)
    trainings.assert_same_outcome(folder / 'run', outcome)


def write_sweep(folder, data_dir, learning_rates):
  """Writes a sweep over learning rates; returns its arguments."""
  text = sweep_test.SWEEP.replace('(1e30, 1e-3)', learning_rates)
  (folder / 'sweep.py').write_text(text)
  return (
    f'--config={folder / "sweep.py"}',
    f'--sweep_dir={folder / "sweep"}',
    '--heartbeat_seconds=1',
    '--',
    '--config.dataset.synthetic_posters=0',
    f'--config.dataset.data_dir={data_dir}',
  )


def trial_states(folder):
  with (folder / 'sweep' / 'sweep.csv').open() as file:
    return [row['state'] for row in csv.DictReader(file)]


@LONG
def test_sweep_worker(data_dir, tmp_path):
  flags = write_sweep(tmp_path, data_dir, '(1e-4, 1e-3)')
  for kill_time in kill_times(10, 12.0):
    trainings.kill_after(kill_time, trainings.start('launch.sweep', *flags))
  done = sweep_test.sweep(*flags)
  assert done.returncode == 0, done.stdout + done.stderr
  assert trial_states(tmp_path) == ['complete', 'complete']
  trainings.wait_until_none(tmp_path)


@LONG
def test_trials_of_sweep(data_dir, tmp_path):
  flags = write_sweep(tmp_path, data_dir, '(1e-4, 2e-4, 3e-4, 4e-4)')
  with concurrent.futures.ThreadPoolExecutor() as pool:
    worker = pool.submit(sweep_test.sweep, *flags)
    num_killed = 0
    while not worker.done():
      processes = [
        process
        for process in trainings.running(tmp_path / 'sweep' / 'trials')
        if 'genre_flax.main' in process.cmdline()[:4]
      ]
      if processes and num_killed < 2:
        time.sleep(1.0)
        processes[0].kill()
        num_killed += 1
        time.sleep(3.0)
      time.sleep(0.1)
    done = worker.result()
  assert done.returncode == 0, done.stdout + done.stderr
  states = trial_states(tmp_path)
  assert len(states) == 4
  assert set(states) <= {'complete', 'fail'}
  trainings.wait_until_none(tmp_path)
