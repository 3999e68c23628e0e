"""Tests of evaluating checkpoints one by one."""

import json
import pathlib
import shutil

from etils import epath
import pytest

from genre_flax.inference import continuous_evaluation
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import train
from tests.support import helpers

LAST = 6  # Of the tiny run; it validates every third step.


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


def evaluate(workdir, steps, split='validation', data_dir=''):
  return continuous_evaluation.evaluate_steps(
    steps,
    workdir=workdir,
    split=split,
    data_dir=data_dir,
    batch_size=16,
    bootstrap_samples=10,
  )


def test_all_checkpoints_are_evaluated_as_the_training_did(workdir):
  steps = list(continuous_evaluation.all_checkpoints(workdir))
  assert steps == [3, 6]
  assert evaluate(workdir, steps) == []
  trained = {
    line['step']: line
    for line in metric_writer.read(workdir)
    if line['split'] == 'validation'
  }
  lines = metric_writer.read(workdir / 'eval' / 'validation')
  assert [line['step'] for line in lines] == steps
  for line in lines:
    # All else is of calibrated scores, and the training's of plain ones.
    loss = trained[line['step']]['loss']
    assert line['loss'] == pytest.approx(loss, abs=1e-5)
    report = workdir / 'eval' / f'validation_{line["step"]}' / 'metrics.json'
    metrics = json.loads(report.read_text())['metrics']
    for name in ('accuracy', 'mean_average_precision', 'mean_roc_auc'):
      assert line[name] == metrics[name]['value']
    assert line['macro_f1_fitted'] == metrics['macro_f1_fitted']['value']


def test_a_second_look_replaces_the_lines_of_the_first(workdir):
  for _ in range(2):
    evaluate(workdir, [3, 6])
  lines = metric_writer.read(workdir / 'eval' / 'validation')
  assert [line['step'] for line in lines] == [3, 6]


def test_a_damaged_or_deleted_checkpoint_is_left_out(workdir, caplog):
  model = pathlib.Path(workdir, 'checkpoints', '3', 'model')
  for file in model.rglob('*'):
    if file.is_file():
      file.write_bytes(b'')
  assert evaluate(workdir, [2, 3, 6]) == [2, 3]
  assert 'Checkpoint 2 is left out' in caplog.text
  assert 'Checkpoint 3 is left out' in caplog.text
  lines = metric_writer.read(workdir / 'eval' / 'validation')
  assert [line['step'] for line in lines] == [6]


def test_a_workdir_without_checkpoints_is_refused(tmp_path):
  with pytest.raises(errors.InputError, match='no checkpoint to evaluate'):
    list(continuous_evaluation.all_checkpoints(tmp_path))


class Training:
  """Plays a training: each look at the workdir finds the next of `looks`."""

  def __init__(self, monkeypatch, looks):
    self._looks = iter(looks)
    self.seconds = 0.0
    monkeypatch.setattr(
      continuous_evaluation, '_look', lambda workdir: next(self._looks)
    )

  def sleep(self, seconds):
    self.seconds += seconds

  def follow(self, *, last_seen=-1, timeout_seconds=60.0):
    return continuous_evaluation.new_checkpoints(
      'run',
      last_seen=last_seen,
      timeout_seconds=timeout_seconds,
      sleep=self.sleep,
      clock=lambda: self.seconds,
    )


def test_each_new_checkpoint_is_seen_once_and_the_last_ends_it(monkeypatch):
  # The training deletes the checkpoint of step 2 meanwhile.
  looks = [([], None), ([2], 8), ([2], 8), ([4, 6], 8), ([6, 8], 8)]
  training = Training(monkeypatch, looks)
  assert list(training.follow()) == [2, 4, 6, 8]
  training = Training(monkeypatch, looks[3:])
  assert list(training.follow(last_seen=4)) == [6, 8]


def test_a_finished_training_ends_at_once(monkeypatch):
  training = Training(monkeypatch, [([4, 8], 8)])
  assert list(training.follow(last_seen=8)) == []
  assert training.seconds == 0


@pytest.mark.parametrize(
  'looks, words',
  [
    ([([], None)] * 30, ['latest is none', 'known with the first']),
    ([([2], 8)] * 30, ['latest is 2', 'last will be 8', '1 minutes']),
  ],
)
def test_a_training_that_saves_nothing_is_given_up(monkeypatch, looks, words):
  training = Training(monkeypatch, looks)
  with pytest.raises(continuous_evaluation.StalledError) as error:
    list(training.follow())
  assert 60 < training.seconds <= 70
  for word in [*words, 'goes on from here']:
    assert word in str(error.value)


def test_a_look_finds_the_steps_and_the_end(workdir, tmp_path):
  assert continuous_evaluation._look(workdir) == ([3, 6], LAST)
  assert continuous_evaluation._look(tmp_path / 'nothing') == ([], None)
