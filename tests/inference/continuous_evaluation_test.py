"""Tests of continuous evaluation."""

import functools
import json
import pathlib
import shutil

from etils import epath
import pytest

from genre_flax.evaluation import metrics as metrics_lib
from genre_flax.inference import continuous_evaluation
from genre_flax.inference import predictor as predictor_lib
from genre_flax.reports import split_report
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  config = helpers.tiny_config(data_dir, keep_best=10)
  train.train(config, folder)
  return folder


@pytest.fixture
def workdir(trained, tmp_path):
  shutil.copytree(trained, tmp_path / 'run')
  return epath.Path(tmp_path / 'run')


def evaluate(workdir):
  return continuous_evaluation.evaluate_checkpoints(
    workdir,
    'validation',
    watch_seconds=None,
    write_report=functools.partial(split_report.write, bootstrap_samples=10),
    data_dir='',
    batch_size=16,
  )


def test_all_checkpoints_are_evaluated_as_in_the_training(workdir, dataset):
  trained = {
    line['step']: line
    for line in metric_writer.read(workdir)
    if line['split'] == 'validation'
  }
  for _ in range(2):  # The second evaluation replaces the lines of the first.
    assert evaluate(workdir) == []
  lines = metric_writer.read(workdir / 'eval' / 'validation')
  assert [line['step'] for line in lines] == [3, 6]
  for line in lines:
    # The metrics of the training are of uncalibrated scores.
    predictions = predictor_lib.restore(
      workdir, step=str(line['step'])
    ).evaluate_split(dataset, 'validation', batch_size=16)
    expected = metrics_lib.compute(predictions.scores, predictions.labels)
    assert trained[line['step']].items() >= expected.items()
    report = workdir / 'eval' / f'validation_{line["step"]}' / 'metrics.json'
    metrics = json.loads(report.read_text())['metrics']
    for name in ('accuracy', 'mean_average_precision', 'macro_f1_fitted'):
      assert line[name] == metrics[name]['value']


def test_damaged_and_deleted_checkpoints_are_skipped(
  workdir, caplog, monkeypatch
):
  model = pathlib.Path(workdir, 'checkpoints', '3', 'model')
  for file in model.rglob('*'):
    if file.is_file():
      file.write_bytes(b'')
  monkeypatch.setattr(
    continuous_evaluation, 'all_checkpoints', lambda _: [2, 3, 6]
  )
  assert evaluate(workdir) == [2, 3]
  assert 'Checkpoint 2 is skipped' in caplog.text
  assert 'Checkpoint 3 is skipped' in caplog.text
  lines = metric_writer.read(workdir / 'eval' / 'validation')
  assert [line['step'] for line in lines] == [6]


def test_workdir_without_checkpoints_is_rejected(tmp_path):
  with pytest.raises(errors.InputError, match='no checkpoint to evaluate'):
    continuous_evaluation.all_checkpoints(tmp_path)


@pytest.fixture
def follow(monkeypatch):
  """Follows a fake training: each poll reads the next of `polls`.

  Returns the steps and the seconds that have passed.
  """
  passed = [0.0]

  def sleep(seconds):
    passed[0] += seconds

  def run(polls, last_step=-1):
    polls = iter(polls)
    monkeypatch.setattr(
      continuous_evaluation, 'read_steps', lambda workdir: next(polls)
    )
    steps = continuous_evaluation.new_checkpoints(
      'run',
      last_step=last_step,
      timeout_seconds=60.0,
      sleep=sleep,
      clock=lambda: passed[0],
    )
    return list(steps), passed[0]

  return run


def test_new_checkpoints_are_yielded_once_until_the_last(follow):
  # The training deletes the checkpoint of step 2 meanwhile.
  polls = [([], None), ([2], 8), ([2], 8), ([4, 6], 8), ([6, 8], 8)]
  assert follow(polls)[0] == [2, 4, 6, 8]
  assert follow(polls[3:], last_step=4)[0] == [6, 8]


def test_finished_training_ends_at_once(follow):
  assert follow([([4, 8], 8)], last_step=8) == ([], 0)


@pytest.mark.parametrize(
  'poll, words',
  [(([], None), 'latest step: none'), (([2], 8), 'step of the training: 8')],
)
def test_stalled_training_is_an_error(follow, poll, words):
  with pytest.raises(continuous_evaluation.StalledError, match=words):
    follow([poll] * 23)  # At most 70 seconds.
