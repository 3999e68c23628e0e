"""Tests of what a sweep says it found."""

import csv
import shlex

import optuna
from PIL import Image
import pytest

from configs.sweeps import default
from launch.sweeps import controller
from launch.sweeps import report
from launch.sweeps import studies
from launch.sweeps import sweep_file

State = optuna.trial.TrialState


@pytest.fixture
def sweep():
  config = default.get_config()
  config.space = (
    {'key': 'image_size', 'values': (96, 128, 250)},
    {'key': 'optimizer.learning_rate', 'values': (1e-3, 2e-3)},
  )
  config.flags = ("--config.dataset.data_dir=it's data",)
  return sweep_file.read_sweep(config)


@pytest.fixture
def study(sweep):
  """Three trials done, one stopped, one failed, one waiting."""
  study = studies.open_study(
    sweep, name='sweep', storage=optuna.storages.InMemoryStorage()
  )
  for number, score in enumerate([0.2, 0.4, 0.3, 0.1, None]):
    trial = study.ask()
    sweep.suggest(trial)
    trial.set_user_attr(controller.SECONDS, 60.0 * (number + 1))
    if score is None:
      trial.set_user_attr(controller.FAILURE, 'out of memory')
      trial.set_user_attr(controller.REASON, 'RESOURCE_EXHAUSTED, "all"')
      study.tell(trial, state=State.FAIL)
      continue
    trial.set_user_attr(controller.MEMORY, 1.5 + number)
    trial.report(score - 0.05, 1)
    if number == 3:
      study.tell(trial, state=State.PRUNED)
    else:
      trial.report(score, 2)
      study.tell(trial, score)
  return study


def test_rows_tell_every_trial(study, sweep):
  rows = report.to_rows(study, sweep)
  assert rows[1] == {
    'trial': 1,
    'state': 'done',
    'score': 0.4,
    'evaluations': 2,
    'minutes': 2.0,
    'peak_memory_gb': 2.5,
    'image_size': '96',
    'optimizer.learning_rate': '0.002',
    'failure': '',
    'reason': '',
  }
  assert [row['state'] for row in rows] == [
    *('done', 'done', 'done', 'stopped', 'failed', 'waiting')
  ]
  # Optuna takes the last report of a stopped trial for its value.
  assert rows[3]['score'] == pytest.approx(0.05)
  assert rows[4]['score'] == rows[5]['minutes'] == ''


def test_the_csv_has_the_rows(study, sweep, tmp_path):
  rows = report.to_rows(study, sweep)
  report.write_csv(rows, tmp_path / 'sweep.csv')
  with (tmp_path / 'sweep.csv').open() as file:
    read = list(csv.DictReader(file))
  assert read == [{k: str(v) for k, v in row.items()} for row in rows]
  assert read[4]['reason'] == 'RESOURCE_EXHAUSTED, "all"'
  assert [path.name for path in tmp_path.iterdir()] == ['sweep.csv']


def test_the_table_prints_what_changed(study, sweep):
  table = report.Table(sweep)
  rows = report.to_rows(study, sweep)
  lines = table.changed_lines(rows)
  assert len(lines) == 5
  assert len(lines[0]) == len(table.header())
  assert lines[1].split() == [
    *('1', 'done', '0.4', '2', '2', '2.5'),
    *('96', '0.002'),
  ]
  assert lines[4].endswith('out of memory: RESOURCE_EXHAUSTED, "all"')
  assert table.changed_lines(rows) == []
  rows[2]['score'] = 0.35
  [line] = table.changed_lines(rows)
  assert '0.35' in line


def test_the_best_command_can_be_pasted(study, sweep, tmp_path):
  found = report.best_flags(study, sweep, ['--config.num_epochs=3'])
  command = report.write_best(found, tmp_path / 'best.sh')
  assert (tmp_path / 'best.sh').read_text() == f'{command}\n'
  assert shlex.split(command) == [
    *('python', '-m', 'genre_flax.main', '--config=configs/poster_cnn.py'),
    "--config.dataset.data_dir=it's data",
    '--config.num_epochs=3',
    '--config.image_size=96',
    '--config.optimizer.learning_rate=0.002',
    '--workdir=WORKDIR',
  ]


def test_the_best_command_has_what_changes_along():
  config = default.get_config()
  config.space = (
    {
      'key': 'image_height',
      'values': (96, 128),
      'along': {'image_width': (64, 80)},
    },
  )
  sweep = sweep_file.read_sweep(config)
  study = studies.open_study(
    sweep, name='sweep', storage=optuna.storages.InMemoryStorage()
  )
  for score in (0.1, 0.2):
    trial = study.ask()
    sweep.suggest(trial)
    study.tell(trial, score)
  assert report.best_flags(study, sweep, [])[-2:] == [
    '--config.image_height=128',
    '--config.image_width=80',
  ]


def test_the_least_is_best_where_it_is_to_be_minimized(study, sweep):
  down = sweep_file.Objective('loss', 'validation', 'minimize')
  object.__setattr__(sweep, 'objective', down)
  found = report.best_flags(study, sweep, [])
  assert found[-1] == '--config.optimizer.learning_rate=0.001'


def test_without_a_finished_trial_there_is_no_best_and_no_plot(sweep, tmp_path):
  study = studies.open_study(
    sweep, name='empty', storage=optuna.storages.InMemoryStorage()
  )
  assert report.best_flags(study, sweep, []) is None
  assert report.draw_plots(study, sweep, tmp_path) == []
  assert list(tmp_path.iterdir()) == []


def test_plots_are_pictures(study, sweep, tmp_path):
  # Importances need four trials.
  trial = study.ask()
  sweep.suggest(trial)
  trial.report(0.25, 1)
  study.tell(trial, 0.25)
  pictures = report.draw_plots(study, sweep, tmp_path)
  assert [path.name for path in pictures] == [
    'history.png',
    'importance.png',
    'by_image_size.png',
    'by_optimizer.learning_rate.png',
  ]
  for path in pictures:
    with Image.open(path) as picture:
      assert min(picture.size) > 150
      # Something is drawn: there is more than the white ground.
      assert len(picture.convert('RGB').getcolors(1 << 20)) > 10
