"""The sweep program with real trainings."""

import contextlib
import csv
import json
import re
import shlex
import signal
import subprocess
import sys
import time

import optuna
from optuna.storages import journal
import psutil
import pytest

from tests.launch import run_test
from tests.support import paths
from tests.support import programs

pytestmark = [
  pytest.mark.slow,
  pytest.mark.filterwarnings('ignore::optuna.exceptions.ExperimentalWarning'),
]

SWEEP = """
from configs.sweeps import default

GRID = {'optimizer.learning_rate': (1e30, 1e-3)}

def get_config():
  config = default.get_config()
  config.base = 'configs/quickstart.py'
  config.flags = (
    '--config.image_height=32',
    '--config.image_width=24',
    '--config.num_train_steps=4',
    '--config.checkpoint_every_steps=2',
  )
  return config
"""


def command(*arguments):
  return [sys.executable, '-m', 'launch.sweep', *map(str, arguments)]


def sweep(*arguments, timeout=300):
  return subprocess.run(
    command(*arguments),
    cwd=paths.ROOT,
    env=programs.environment(),
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


@contextlib.contextmanager
def started(*arguments):
  """A process of the program, killed at the end."""
  process = subprocess.Popen(
    command(*arguments), cwd=paths.ROOT, env=programs.environment()
  )
  try:
    yield process
  finally:
    process.kill()
    process.wait()


def wait_for(condition, seconds=200):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.05)


def rows(folder):
  with (folder / 'sweep.csv').open() as file:
    return list(csv.DictReader(file))


def write_grid(folder, grid):
  text = SWEEP.replace("{'optimizer.learning_rate': (1e30, 1e-3)}", grid)
  (folder / 'my_sweep.py').write_text(text)


@pytest.fixture
def flags(tmp_path, data_dir):
  """The flags of a sweep in the folder `sweep`."""
  path = tmp_path / 'my_sweep.py'
  path.write_text(SWEEP)
  return [
    f'--config={path}',
    f'--sweep_dir={tmp_path / "sweep"}',
    '--heartbeat_seconds=1',
    '--',
    '--config.dataset.synthetic_posters=0',
    f'--config.dataset.data_dir={data_dir}',
  ]


def test_a_grid_with_failures(flags, tmp_path):
  result = sweep(*flags)
  assert result.returncode == 0, result.stdout + result.stderr
  folder = tmp_path / 'sweep'
  diverged, complete = rows(folder)
  assert (diverged['state'], diverged['failure']) == ('fail', 'diverged')
  assert re.match(r'error: Step \d: \w+ is (nan|inf)', diverged['reason'])
  assert complete['state'] == 'complete'
  lines = [
    json.loads(line)
    for line in (folder / 'trials/1/metrics.jsonl').read_text().splitlines()
  ]
  values = [line.get('mean_average_precision', 0) for line in lines]
  assert float(complete['score']) == pytest.approx(max(values))
  assert float(complete['peak_memory_gb']) > 0.1
  [best] = (folder / 'best.sh').read_text().splitlines()
  assert best in result.stdout
  assert '--config.optimizer.learning_rate=0.001' in shlex.split(best)

  before = (folder / 'sweep.csv').read_text()
  again = sweep(*flags)
  assert again.returncode == 0, again.stderr
  assert (folder / 'sweep.csv').read_text() == before
  assert best in again.stdout


def test_two_workers_share_the_trials(flags, tmp_path):
  write_grid(tmp_path, "{'optimizer.weight_decay': (0.0, 0.1, 0.2, 0.3)}")
  result = sweep('--num_workers=2', *flags)
  assert result.returncode == 0, result.stdout + result.stderr
  folder = tmp_path / 'sweep'
  assert [row['state'] for row in rows(folder)] == ['complete'] * 4
  # Each trial was taken once and trained once.
  trained = re.findall(r'Trial (\d+) .*: score', result.stderr)
  assert sorted(trained) == ['0', '1', '2', '3']
  assert sorted(p.name for p in (folder / 'trials').iterdir()) == [*'0123']
  for number in range(4):
    path = folder / f'trials/{number}/starts.json'
    assert len(json.loads(path.read_text())) == 1
  # A training starts while another one runs.
  trials = load_study(folder).trials
  assert len(trials) == 4
  assert any(
    a.datetime_start < b.datetime_start < a.datetime_complete
    for a in trials
    for b in trials
  )


def load_study(folder):
  backend = journal.JournalFileBackend(str(folder / 'journal.log'))
  return optuna.load_study(
    study_name='sweep', storage=journal.JournalStorage(backend)
  )


def test_a_killed_worker_is_the_status_of_all(flags, tmp_path):
  """The other workers train its trials."""
  write_grid(tmp_path, "{'optimizer.weight_decay': (0.0, 0.1, 0.2)}")
  folder = tmp_path / 'sweep'
  with started('--num_workers=2', *flags) as process:
    wait_for(lambda: (folder / 'trials/1/starts.json').exists())
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    workers[0].kill()
    assert process.wait(300) == 128 + signal.SIGKILL
  assert [row['state'] for row in rows(folder)] == ['complete'] * 3


def test_sigterm_stops_all_workers(flags, tmp_path):
  write_grid(tmp_path, "{'optimizer.weight_decay': (0.0, 0.1)}")
  folder = tmp_path / 'sweep'
  flags.append('--config.num_train_steps=100000')
  with started('--num_workers=2', *flags) as process:
    wait_for(lambda: len(list(folder.glob('trials/*/starts.json'))) >= 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
  assert not any(child.is_running() for child in children)
  states = [trial.state.name for trial in load_study(folder).trials]
  assert states == ['WAITING', 'WAITING']


def test_a_killed_worker(flags, tmp_path):
  """Its trial is retried, and resumes from its checkpoint."""
  folder = tmp_path / 'sweep'
  write_grid(tmp_path, "{'optimizer.weight_decay': (0.0, 0.1)}")
  flags += [
    '--config.num_train_steps=100',
    '--config.checkpoint_every_steps=5',
    '--config.eval_every_epochs=100',
  ]
  with started(*flags) as process:
    wait_for(lambda: (folder / 'trials/0/checkpoints/5').exists())
    [child] = psutil.Process(process.pid).children()
  child.wait(60)  # The training saves and ends.
  result = sweep(*flags)
  assert result.returncode == 0, result.stdout + result.stderr
  assert [row['state'] for row in rows(folder)] == ['complete'] * 2
  assert sorted(path.name for path in (folder / 'trials').iterdir()) == [
    '0',
    '1',
  ]
  starts = json.loads((folder / 'trials/0/starts.json').read_text())
  assert starts[0]['step'] == 0
  assert 5 <= starts[1]['step'] < 100


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], 'must have a value other than None'),
    (
      [
        '--config=configs/sweeps/image_size.py',
        '--sweep_dir=x',
        '--config.sampler=tpe',
      ],
      'config.num_trials of at least 1',
    ),
    (
      ['--config=configs/sweeps/image_size.py', '--sweep_dir=x', 'stray'],
      "Unexpected arguments: ['stray']",
    ),
    (
      ['--config=configs/sweeps/image_size.py', '--sweep_dir=gs://bucket/x'],
      'expected --storage=URL',
    ),
    (['--config=configs/sweeps/none.py', '--sweep_dir=x'], 'none.py'),
    (['--sweepdir=x'], "Unknown command line flag 'sweepdir'"),
    (
      [
        '--config=configs/sweeps/image_size.py',
        '--sweep_dir=x',
        '--',
        '--config.batchsize=3',
      ],
      'batchsize',
    ),
  ],
)
def test_invalid_arguments_are_refused(arguments, message):
  result = sweep(*arguments)
  assert result.returncode == 2, result.stderr
  assert message in result.stderr
  assert 'Traceback' not in result.stderr


def test_a_dry_run_writes_nothing(flags, tmp_path):
  result = sweep('--dry_run', *flags)
  assert result.returncode == 0, result.stderr
  first, last = result.stdout.splitlines()
  assert '--config.optimizer.learning_rate=1e+30' in shlex.split(first)
  assert last == 'Dry run of 2 trials: nothing was trained.'
  assert not (tmp_path / 'sweep').exists()


def test_invalid_trials_and_missing_data_are_refused_before_the_first(
  flags, tmp_path
):
  write_grid(tmp_path, "{'optimizer.learning_rate': (1e-3, -1.0)}")
  result = sweep(*flags)
  assert result.returncode == 2
  assert 'config.optimizer.learning_rate=-1.0: must be' in result.stderr
  write_grid(tmp_path, "{'optimizer.learning_rate': (1e-3, 1e-2)}")
  result = sweep(*flags[:-1], f'--config.dataset.data_dir={tmp_path}/none')
  assert result.returncode == 2
  assert f'data_dir={tmp_path}/none does not exist' in result.stderr
  assert 'Traceback' not in result.stderr
  assert not (tmp_path / 'sweep').exists()


def launch(*arguments):
  own = ('--name=sweep', '--program=sweep', '--dry_run')
  return run_test.launch(*own, *arguments)


def test_trials_are_checked_before_a_sweep_is_submitted(flags, tmp_path):
  result = launch('--engine=slurm', '--', *flags)
  assert result.returncode == 0, result.stderr
  assert 'launch.sweep' in result.stdout
  write_grid(tmp_path, "{'optimizer.learning_rate': (1e-3, -1.0)}")
  result = launch('--engine=slurm', '--', *flags)
  assert result.returncode == 2
  assert 'config.optimizer.learning_rate=-1.0: must be' in result.stderr
  result = launch('--engine=slurm', '--', 'stray', *flags)
  assert result.returncode == 2
  assert "Unexpected arguments: ['stray']" in result.stderr


def test_data_of_this_machine_are_refused_for_machines_elsewhere():
  arguments = (
    *('--engine=jobset', '--image=gcr.io/a/b', '--accelerators=v5e:2x2', '--'),
    *('--config=configs/sweeps/image_size.py', '--sweep_dir=gs://bucket/sweep'),
    *('--storage=postgresql+psycopg://host/name', '--'),
    '--config.dataset.data_dir=/data/posters',
  )
  result = launch(*arguments)
  assert result.returncode == 2
  assert 'data_dir=/data/posters is a folder of this machine' in result.stderr
  result = launch('--mount=/data=gs://bucket', *arguments)
  assert result.returncode == 0, result.stderr
  note = 'data_dir=/data/posters is on a mount, and was not checked'
  assert result.stderr.count(note) == 1
