"""The sweep binary, whole, with real trainings."""

import csv
import functools
import json
import re
import shlex

import pytest

from tests.support import programs

pytestmark = pytest.mark.slow

SWEEP = """
from configs.sweeps import default

def get_config():
  config = default.get_config()
  config.base = 'configs/quickstart.py'
  config.flags = (
    '--config.image_height=32',
    '--config.image_width=24',
    '--config.num_train_steps=4',
    '--config.bootstrap_samples=0',
    '--config.report=False',
  )
  config.space = (
    {'key': 'optimizer.learning_rate', 'values': (-1.0, 1e-3)},
  )
  return config
"""


sweep = functools.partial(programs.run, 'sweep', package='launch')


@pytest.fixture
def sweep_file(tmp_path):
  path = tmp_path / 'my_sweep.py'
  path.write_text(SWEEP)
  return path


@pytest.fixture
def flags(sweep_file, tmp_path, data_dir):
  return [
    f'--config={sweep_file}',
    f'--sweep_dir={tmp_path / "My sweep"}',
    '--',
    '--config.dataset.synthetic_posters=0',
    f'--config.dataset.data_dir={data_dir}',
  ]


def test_trials_are_trained_and_the_best_command_is_named(flags, tmp_path):
  result = sweep(*flags)
  assert result.returncode == 0, result.stdout + result.stderr
  folder = tmp_path / 'My sweep'
  with (folder / 'sweep.csv').open() as file:
    failed, done = csv.DictReader(file)
  assert (failed['state'], failed['failure']) == ('failed', 'bad config')
  assert 'config.optimizer.learning_rate=-1.0: must be' in failed['reason']
  assert (done['state'], done['optimizer.learning_rate']) == ('done', '0.001')
  lines = [
    json.loads(line)
    for line in (folder / 'trials' / 'trial_0001' / 'seed_0' / 'metrics.jsonl')
    .read_text()
    .splitlines()
  ]
  best = max(
    line['mean_average_precision']
    for line in lines
    if line['split'] == 'validation'
  )
  assert float(done['score']) == pytest.approx(best, abs=1e-6)
  assert float(done['minutes']) > 0
  assert float(done['peak_memory_gb']) > 0.1
  [command] = (folder / 'best.sh').read_text().splitlines()
  assert command in result.stdout
  assert '--config.optimizer.learning_rate=0.001' in shlex.split(command)
  assert (folder / 'history.png').read_bytes().startswith(b'\x89PNG')

  # Once more: nothing is left to do.
  before = (folder / 'sweep.csv').read_text()
  again = sweep(*flags)
  assert again.returncode == 0, again.stderr
  assert (folder / 'sweep.csv').read_text() == before
  assert command in again.stdout


def test_a_dry_run_prints_commands_and_writes_nothing(flags, tmp_path):
  result = sweep('--dry_run', '--backend=slurm', *flags)
  assert result.returncode == 0, result.stderr
  *commands, last = result.stdout.splitlines()
  assert last == 'Dry run: nothing was run.'
  assert len(commands) == 2
  words = shlex.split(commands[1])
  assert words[1:4] == ['-m', 'launch.run', '--backend=slurm']
  [name] = [word for word in words if word.startswith('--name=')]
  assert re.fullmatch('--name=s-my-sweep-[0-9a-f]{6}-0001-0', name)
  assert '--config.optimizer.learning_rate=0.001' in words
  assert f'--workdir={tmp_path}/My sweep/trials/trial_0001/seed_0' in words
  assert not (tmp_path / 'My sweep').exists()


VALID = ('--config=configs/sweeps/image_size.py', '--sweep_dir=x')


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    ([], '--config is missing'),
    (VALID[:1], '--sweep_dir is missing'),
    ([*VALID, '--config.sampler=tpe'], 'config.num_trials=None: how many'),
    ([*VALID, 'stray'], "Unexpected arguments: ['stray']"),
    ([*VALID, '--', 'y'], "Unexpected arguments: ['y']"),
    (['--config=configs/sweeps/none.py', '--sweep_dir=x'], 'none.py'),
    (['--sweepdir=x'], "Unknown command line flag 'sweepdir'"),
    ([*VALID, '--config.sampla=grid'], 'sampla'),
  ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
  result = sweep(*arguments)
  assert result.returncode == 2, result.stderr
  assert message in result.stderr
  assert 'Traceback' not in result.stderr
