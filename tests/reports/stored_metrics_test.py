"""What a workdir keeps of its metrics, read again."""

import json

import numpy as np
import pytest

from genre_flax.evaluation import calibration
from genre_flax.evaluation import evaluator
from genre_flax.reports import split_metrics
from genre_flax.reports import stored_metrics
from genre_flax.runtime import errors

GENRES = ('Drama', 'War')


@pytest.fixture(scope='module')
def kept():
  """What a training leaves, of the checkpoint of step 7."""
  labels = np.array([[1, 0], [0, 1], [1, 1], [0, 1]], np.float32)
  logits = np.array([[2, -1], [-1, 1], [1, 3], [1, -2]], np.float32)
  report = split_metrics.make_report(
    evaluator.Predictions(logits, labels),
    calibration=calibration.identity(GENRES),
    label_prior=labels.mean(axis=0),
    constant_answers={},
    bootstrap_samples=10,
  )
  return json.loads(json.dumps({'split': 'test', 'step': 7, **report}))


def write(folder, content):
  folder.mkdir(parents=True, exist_ok=True)
  text = content if isinstance(content, str) else json.dumps(content)
  (folder / split_metrics.FILE_NAME).write_text(text)


def test_metrics_of_a_checkpoint_are_read(kept, tmp_path):
  write(tmp_path, kept)
  found = stored_metrics.read(tmp_path, step=7, genres=GENRES)
  for key in ('split', 'step', 'num_examples', 'metrics', 'genres'):
    assert found[key] == kept[key]
  assert stored_metrics.read(tmp_path, step=999, genres=GENRES) is None


def test_those_of_an_evaluation_are_found_too(kept, tmp_path):
  write(tmp_path, kept)
  write(tmp_path / 'eval' / 'validation_9', {**kept, 'step': 9})
  for read in (stored_metrics.read, stored_metrics.read_any):
    assert read(tmp_path, step=9, genres=GENRES)['step'] == 9


def test_those_of_another_checkpoint_are_better_shown_than_none(kept, tmp_path):
  assert stored_metrics.read_any(tmp_path, step=9, genres=GENRES) is None
  write(tmp_path, kept)
  assert stored_metrics.read_any(tmp_path, step=9, genres=GENRES)['step'] == 7


@pytest.mark.parametrize(
  'change',
  [
    {'genres': {}},
    {'metrics': 3},
    {'metrics': {'a': 1}},
    {'num_examples': 'many'},
    {'step': None},
  ],
)
def test_what_this_program_did_not_write_is_told(
  kept, tmp_path, change, caplog
):
  write(tmp_path, {**kept, **change})
  with pytest.raises(errors.InputError, match=r'metrics\.json is not what'):
    stored_metrics.read(tmp_path, step=7, genres=GENRES)
  assert stored_metrics.read_any(tmp_path, step=7, genres=GENRES) is None
  assert 'No metrics are shown' in caplog.text


@pytest.mark.parametrize('content', ['', '{'])
def test_what_is_no_json_is_told(tmp_path, content, caplog):
  write(tmp_path, content)
  with pytest.raises(errors.InputError, match='is no JSON'):
    stored_metrics.read(tmp_path, step=7, genres=GENRES)
  assert stored_metrics.read_any(tmp_path, step=7, genres=GENRES) is None
  assert 'is no JSON' in caplog.text


def test_what_is_no_report_at_all_is_none(tmp_path):
  write(tmp_path, '[]')
  assert stored_metrics.read_any(tmp_path, step=7, genres=GENRES) is None
