"""Tests of the comparison of groups of runs."""

import json

from etils import epath
import numpy as np
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.evaluation import comparison
from genre_flax.evaluation import metrics
from genre_flax.evaluation import stored_predictions
from genre_flax.runtime import errors

LABELS = np.array([[1, 0], [0, 1], [1, 1], [0, 1]])
IDS = ['a', 'b', 'c', 'd']


@pytest.fixture(autouse=True)
def best_step(monkeypatch):
  """The best checkpoint of all runs is that of step 7."""
  monkeypatch.setattr(
    checkpointer_lib.Checkpointer, 'find_step', lambda self, which: 7
  )


def evaluate(workdir, *, num_wrong=0, folder='', **changes):
  """A run that predicts the first genre of some posters wrongly."""
  scores = np.where(LABELS, 0.9, 0.2)
  scores[:num_wrong, 0] = 1 - scores[:num_wrong, 0]
  fields = {
    'inputs': metrics.Inputs(
      scores, LABELS, fitted={'exact_match': scores > 0.1}
    ),
    'split': 'test',
    'step': '7',
    'ids': IDS,
    'genres': ['Drama', 'War'],
    'constant_baseline': {'accuracy': 0.625 + num_wrong / 100, 'x': None},
  }
  folder = epath.Path(workdir) / folder
  folder.mkdir(parents=True, exist_ok=True)
  stored_predictions.write(
    stored_predictions.StoredPredictions(**fields | changes), folder
  )


def make_run(workdir, *, config, **options):
  evaluate(workdir, **options)
  (workdir / 'config.json').write_text(json.dumps(config))
  return workdir


def make_groups(tmp_path):
  return {
    'base': [
      make_run(
        tmp_path / f'base_{n}', num_wrong=n, config={'seed': n, 'a': {'b': 1}}
      )
      for n in (0, 2)
    ],
    'other': [
      make_run(tmp_path / 'other', num_wrong=4, config={'seed': 9, 'lr': 0.1})
    ],
  }


def test_values_by_hand(tmp_path):
  table = comparison.compare(
    make_groups(tmp_path),
    names=['accuracy', 'exact_match_fitted'],
    num_samples=200,
  )
  assert list(table.index) == ['base', 'other', comparison.BASELINE]
  base, other, baseline = (row for _, row in table.iterrows())
  # 0, 2 and 4 of 8 pairs are wrong.
  assert (base.runs, base.posters, base.accuracy) == (2, 4, 0.875)
  assert base.accuracy_std == pytest.approx(0.25 / np.sqrt(2))
  assert (other.runs, other.accuracy) == (1, 0.5)
  assert np.isnan(other.accuracy_std) and np.isnan(base.accuracy_difference)
  assert other.accuracy_difference == -0.375
  # The seeds of the first group contribute, 0.375 +- 0.125 * sqrt(2).
  assert other.accuracy_low < -0.5 < -0.25 < other.accuracy_high
  # At its operating point all genres are predicted unless the score is 0.1.
  assert base.exact_match_fitted == np.mean([0.25, 0.25])
  assert baseline.accuracy == pytest.approx(0.625 + 0.01)
  assert np.isnan(baseline.exact_match_fitted)
  keys = table.filter(regex='^config').iloc[:2].to_dict('index')
  assert keys == {
    'base': {'config.a.b': '1', 'config.lr': 'None'},
    'other': {'config.a.b': 'None', 'config.lr': '0.1'},
  }


def test_all_metrics_are_compared(tmp_path):
  table = comparison.compare(make_groups(tmp_path), num_samples=0)
  expected = set(metrics.METRICS) - {'exact_match'} | {'exact_match_fitted'}
  assert expected <= set(table.columns)
  assert 'exact_match' not in table
  with pytest.raises(
    errors.InputError, match="No metrics.*'recall'.*recall_at"
  ):
    comparison.compare(make_groups(tmp_path), names=['recall'])


def test_only_predictions_of_the_best_checkpoint_are_used(tmp_path):
  run = make_run(tmp_path / 'run', config={}, step='5', num_wrong=4)
  groups = {'a': [run]}
  with pytest.raises(
    errors.InputError,
    match=f'1 of 1 runs.*\n.*top3 --model={run} --split=test',
  ):
    comparison.compare(groups)
  evaluate(run, folder='eval/test_7')
  evaluate(run, folder='eval/validation_7', num_wrong=2, split='validation')
  for split, accuracy in (('test', 1.0), ('validation', 0.75)):
    table = comparison.compare(groups, split=split, num_samples=0)
    assert table.accuracy['a'] == accuracy


@pytest.mark.parametrize(
  'change',
  [
    {'genres': ['War', 'Drama']},
    {'ids': ['a', 'b', 'c', 'e']},
    {'inputs': metrics.Inputs(np.ones((4, 2)), 1 - LABELS)},
  ],
)
def test_different_posters_are_refused(tmp_path, change):
  groups = make_groups(tmp_path)
  evaluate(tmp_path / 'base_2', **change)
  name = 'labels' if 'inputs' in change else next(iter(change))
  with pytest.raises(errors.InputError, match=f'the {name} of the posters'):
    comparison.compare(groups)


def test_damaged_files_are_errors(tmp_path):
  groups = make_groups(tmp_path)
  path = tmp_path / 'other' / 'predictions.npz'
  path.write_bytes(path.read_bytes()[:-9])
  with pytest.raises(errors.InputError, match='predictions.npz cannot be read'):
    comparison.compare(groups)
  evaluate(tmp_path / 'other')
  (tmp_path / 'other' / 'config.json').write_text('{')
  with pytest.raises(errors.InputError, match='config.json cannot be read'):
    comparison.compare(groups)
