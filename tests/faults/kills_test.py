"""`kill -9` at any moment: the same end, nothing half, nothing orphaned."""

import concurrent.futures
import csv
import random
import time

import pytest

from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.runtime import errors
from tests.faults import outcomes as outcomes_lib
from tests.faults import runs
from tests.launch import run_test
from tests.launch import sweep_test
from tests.support import binaries

pytestmark = pytest.mark.slow
GROUP = '`kill -9`'
# (workdirs, kills of the run in each).
SHORT, LONG = (1, 1), (10, 5)
LENGTHS = pytest.mark.parametrize(
  ('chains', 'kills'), [SHORT, pytest.param(*LONG, marks=pytest.mark.drill)]
)
FEW = pytest.mark.parametrize(
  'kills', [1, pytest.param(10, marks=pytest.mark.drill)]
)
MANY = pytest.mark.parametrize(
  'kills', [pytest.param(10, marks=pytest.mark.drill)]
)


def moments(number, seconds):
  """Spread over the whole life of a run, in any order."""
  spread = [(place + 0.5) * seconds / number for place in range(number)]
  random.Random(0).shuffle(spread)
  return spread


@pytest.fixture(scope='module')
def expected(data_dir, tmp_path_factory):
  """What a run ends in that nobody stops, and how long it takes."""
  workdir = tmp_path_factory.mktemp('expected')
  binaries.run(*runs.training(workdir / 'warm', data_dir))
  started = time.monotonic()
  done = binaries.run(*runs.training(workdir / 'run', data_dir))
  assert done.returncode == 0, done.stderr
  return runs.outcome(workdir / 'run'), time.monotonic() - started


@LENGTHS
def test_a_training(data_dir, expected, tmp_path, chains, kills):
  outcomes = outcomes_lib.Outcomes('a training', group=GROUP)
  end, seconds = expected
  spread = moments(chains * kills, seconds)
  for chain in range(chains):
    workdir = tmp_path / str(chain)
    arguments = runs.training(workdir, data_dir)
    for moment in spread[chain * kills : (chain + 1) * kills]:
      process = runs.start(f'genre_flax.{arguments[0]}', *arguments[1:])
      was_running = runs.kill_after([process], moment)
      runs.assert_all_whole(workdir)
      outcomes['gone on with, bit for bit'] += was_running
      outcomes['ended before'] += not was_running
    done = binaries.run(*arguments)
    assert done.returncode == 0, done.stderr
    runs.assert_same_outcome(workdir, end)
    assert not runs.processes_of(workdir)
  outcomes.done()


def start_two(arguments):
  address = binaries.free_address()
  return [
    runs.start(
      f'genre_flax.{arguments[0]}',
      *arguments[1:],
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES=2,
      JAX_PROCESS_ID=number,
    )
    for number in range(2)
  ]


@pytest.mark.drill
def test_a_training_of_two_processes(data_dir, tmp_path):
  outcomes = outcomes_lib.Outcomes('a training of two processes', group=GROUP)
  plain = start_two(runs.training(tmp_path / 'plain', data_dir))
  started = time.monotonic()
  assert [p.wait(120) for p in plain] == [0, 0]
  seconds = time.monotonic() - started
  end = runs.outcome(tmp_path / 'plain')
  arguments = runs.training(tmp_path / 'run', data_dir)
  for number, moment in enumerate(moments(12, seconds)):
    both = start_two(arguments)
    # The one first, and the other as it may be a moment later.
    first = number % 2
    was_running = runs.kill_after([both[first]], moment)
    runs.kill_after([both[1 - first]], 0.0)
    runs.assert_all_whole(tmp_path / 'run')
    outcomes['gone on with, bit for bit'] += was_running
    outcomes['ended before'] += not was_running
  both = start_two(arguments)
  assert [p.wait(120) for p in both] == [0, 0]
  runs.assert_same_outcome(tmp_path / 'run', end)
  outcomes.done()


@MANY
def test_prepare(tmp_path, kills):
  outcomes = outcomes_lib.Outcomes('`prepare`', group=GROUP)
  flags = ('--synthetic=600', f'--data_dir={tmp_path / "plain"}')
  started = time.monotonic()
  assert binaries.run('prepare', *flags).returncode == 0
  seconds = time.monotonic() - started
  card = storage.read_card(tmp_path / 'plain')
  data_dir = tmp_path / 'data'
  for moment in moments(kills, seconds):
    process = runs.start(
      'genre_flax.prepare', flags[0], f'--data_dir={data_dir}', '--overwrite'
    )
    was_running = runs.kill_after([process], moment)
    try:
      assert storage.open_dataset(data_dir).card == card
      outcomes['a whole data set is there'] += 1
    except errors.InputError as e:
      assert 'holds no prepared data set' in str(e)
      outcomes['none is there'] += was_running
  done = binaries.run('prepare', flags[0], f'--data_dir={data_dir}')
  assert done.returncode == 0, done.stderr
  verified = binaries.run('prepare', '--verify', f'--data_dir={data_dir}')
  assert verified.returncode == 0, verified.stderr
  assert storage.open_dataset(data_dir).card == card
  assert [p.name for p in (data_dir / 'posters').iterdir()] == ['1.0.0']
  outcomes.done()


@MANY
def test_naming_genres(data_dir, expected, tmp_path, kills):
  del expected  # It has compiled what is compiled here.
  outcomes = outcomes_lib.Outcomes('`top3 --output`', group=GROUP)
  done = binaries.run(*runs.training(tmp_path / 'run', data_dir))
  assert done.returncode == 0, done.stderr
  _, folder = synthetic.write_posters(tmp_path / 'posters', num_posters=200)
  flags = (f'--workdir={tmp_path / "run"}', '--batch_size=1', folder)
  started = time.monotonic()
  done = binaries.run('top3', *flags, f'--output={tmp_path / "plain"}')
  assert done.returncode == 0, done.stderr
  seconds = time.monotonic() - started
  expected_rows = (tmp_path / 'plain' / 'predictions.csv').read_bytes()
  output = tmp_path / 'out'
  flags = (*flags, f'--output={output}')
  for moment in sorted(moments(kills, seconds), reverse=True):
    process = runs.start('genre_flax.top3', *flags)
    runs.kill_after([process], moment)
    partial = output / 'predictions.partial.csv'
    if partial.exists():
      rows = partial.read_bytes()
      whole = rows[: rows.rindex(b'\n') + 1]
      assert expected_rows.startswith(whole)
    outcomes['the rows so far'] += 1
  done = binaries.run('top3', *flags)
  assert done.returncode == 0, done.stderr
  assert (output / 'predictions.csv').read_bytes() == expected_rows
  assert not (output / 'predictions.partial.csv').exists()
  outcomes.done()


@FEW
def test_the_launcher(data_dir, expected, tmp_path, kills):
  outcomes = outcomes_lib.Outcomes('`launch.run`, locally', group=GROUP)
  end, seconds = expected
  for number, moment in enumerate(moments(kills, seconds + 1)):
    folder = tmp_path / str(number)
    arguments = runs.training(folder / 'run', data_dir)
    flags = ('--name=drill', f'--state_dir={folder / "state"}', '--')
    process = runs.start('launch.run', *flags, *arguments[1:])
    runs.kill_after([process], moment)
    done = run_test.launch(*flags, *arguments[1:])
    assert done.returncode == 0, done.stdout + done.stderr
    runs.wait_until_none(folder)
    runs.assert_same_outcome(folder / 'run', end)
    outcomes['followed again, no process left'] += 1
  outcomes.done()


@MANY
def test_a_sweep(data_dir, tmp_path, kills):
  outcomes = outcomes_lib.Outcomes("a sweep's controller", group=GROUP)
  (tmp_path / 'sweep.py').write_text(sweep_test.SWEEP.replace('-1.0', '1e-4'))
  flags = (
    f'--config={tmp_path / "sweep.py"}',
    f'--sweep_dir={tmp_path / "sweep"}',
    '--',
    '--config.dataset.synthetic_posters=0',
    f'--config.dataset.data_dir={data_dir}',
  )
  for moment in moments(kills, 12.0):
    process = runs.start('launch.sweep', *flags)
    runs.kill_after([process], moment)
    outcomes['gone on with, all trials done'] += 1
  done = sweep_test.sweep(*flags)
  assert done.returncode == 0, done.stdout + done.stderr
  with (tmp_path / 'sweep' / 'sweep.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['state'] for row in rows] == ['done', 'done']
  runs.wait_until_none(tmp_path)
  outcomes.done()


@pytest.mark.drill
def test_the_workers_of_a_sweep(data_dir, tmp_path):
  outcomes = outcomes_lib.Outcomes("a sweep's trainings", group=GROUP)
  (tmp_path / 'sweep.py').write_text(
    sweep_test.SWEEP.replace('(-1.0, 1e-3)', '(1e-4, 2e-4, 3e-4, 4e-4)')
  )
  flags = (
    f'--config={tmp_path / "sweep.py"}',
    f'--sweep_dir={tmp_path / "sweep"}',
    '--',
    '--config.dataset.synthetic_posters=0',
    f'--config.dataset.data_dir={data_dir}',
  )
  with concurrent.futures.ThreadPoolExecutor() as pool:
    controller = pool.submit(sweep_test.sweep, *flags)
    killed = 0
    while not controller.done():
      trainings = [
        process
        for process in runs.processes_of(tmp_path / 'sweep' / 'trials')
        if 'genre_flax.main' in process.cmdline()[:4]
      ]
      if trainings and killed < 2:
        time.sleep(1.0)
        trainings[0].kill()
        killed += 1
        time.sleep(3.0)
      time.sleep(0.1)
    done = controller.result()
  assert done.returncode == 0, done.stdout + done.stderr
  with (tmp_path / 'sweep' / 'sweep.csv').open() as file:
    states = [row['state'] for row in csv.DictReader(file)]
  assert len(states) == 4
  assert set(states) <= {'done', 'failed'}
  outcomes['recorded as failed, the others done'] += killed
  outcomes.done()
  runs.wait_until_none(tmp_path)
