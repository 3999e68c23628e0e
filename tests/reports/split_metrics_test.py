"""Tests of the metrics of a split, and of metrics.json."""

import dataclasses
import json
import types

from etils import epath
import numpy as np
import pytest
from scipy import special

from genre_flax.evaluation import calibration
from genre_flax.evaluation import evaluator
from genre_flax.evaluation import metrics
from genre_flax.inference import scored_split
from genre_flax.reports import split_metrics
from genre_flax.reports.html import report as html_report
from genre_flax.runtime import errors
from genre_flax.training import progress

GENRES = ('Comedy', 'Drama', 'News', 'War')
SCORES = np.array(
  [[0.9, 0.2, 0.1, 0.3], [0.1, 0.8, 0.2, 0.6], [0.6, 0.7, 0.3, 0.1]]
)
LABELS = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0]], np.float32)


def make(**changes):
  predictor = {
    'step': 7,
    'calibration': calibration.identity(GENRES),
    'label_prior': np.array([0.4, 0.6, 0.0, 0.1]),
    'constant_baseline': {},
    **changes,
  }
  scored = scored_split.ScoredSplit(
    name='test',
    predictor=types.SimpleNamespace(**predictor),
    dataset=None,
    records=None,
    predictions=evaluator.Predictions(special.logit(SCORES), LABELS),
  )
  return split_metrics.make_report(scored, bootstrap_samples=50)


def test_metrics_have_value_interval_and_baseline():
  made = make()
  assert (made['split'], made['step']) == ('test', 7)
  assert made['num_examples'] == 3
  p = np.where(LABELS > 0, SCORES, 1 - SCORES)
  cross_entropy = made['metrics']['cross_entropy']
  assert cross_entropy['value'] == pytest.approx(-np.log(p).sum(axis=1).mean())
  assert cross_entropy['high'] > 1
  assert made['metrics'].keys() == metrics.METRICS.keys() | {
    'exact_match_fitted',
    'micro_f1_fitted',
    'macro_f1_fitted',
  }
  # 11 of 12 pairs are correct; the prior predicts Drama for all: 9 of 12.
  accuracy = made['metrics']['accuracy']
  assert accuracy['value'] == pytest.approx(11 / 12)
  assert accuracy['constant_baseline'] == pytest.approx(9 / 12)
  assert accuracy['low'] <= accuracy['value'] <= accuracy['high']


def test_a_new_metric_is_in_all_outputs(monkeypatch):
  def error_rate(inputs, weights):
    return 1 - metrics.METRICS['accuracy'].function(inputs, weights)

  metric = metrics.Metric(error_rate, 'error rate', higher_is_better=False)
  monkeypatch.setitem(metrics.METRICS, 'error_rate', metric)
  made = make()
  assert made['metrics']['error_rate']['value'] == pytest.approx(1 / 12)
  assert 'error_rate' in split_metrics.format_metrics(made)
  values = {name: each['value'] for name, each in made['metrics'].items()}
  values |= {'loss': 1.0, 'seconds': 1.0}
  line = progress.describe_metrics(3, 'test', values, best_metric='error_rate')
  assert line.startswith(
    'step 3  test: loss 1.0000  error rate 0.0833  mean AP'
  )
  assert line.count('.') == 5
  assert 'Error rate' in [title for _, title, _ in html_report.metric_titles()]
  assert 'error_rate' in metrics.reported(())


def test_constant_baseline_predicts_the_best_genres_of_the_training_split():
  # The prior predicts Drama, Comedy, War, which hits all posters; News, War and
  # Comedy hit two of three, with recalls 1 / 1, 1 / 2 and 0 / 1.
  made = make()['metrics']
  assert made['hit_at_3']['constant_baseline'] == 1.0
  best = dict.fromkeys(('hit_at_3', 'recall_at_3'), (2, 3, 0))
  made = make(constant_baseline=best)['metrics']
  assert made['hit_at_3']['constant_baseline'] == pytest.approx(2 / 3)
  assert made['recall_at_3']['constant_baseline'] == pytest.approx(1.5 / 3)
  assert made['precision_at_3']['constant_baseline'] == pytest.approx(4 / 9)


def test_metrics_of_genres():
  genres = make()['genres']
  values = {
    name: (genre['support'], genre['num_in_top3'], genre['num_predicted'])
    for name, genre in genres.items()
  }
  # The top 3 are all genres but the one with the lowest score.
  assert values == {
    'Comedy': (1, 2, 2),
    'Drama': (2, 3, 2),
    'News': (0, 2, 0),
    'War': (1, 2, 1),
  }
  assert genres['War']['average_precision'] == 1.0
  assert genres['News']['average_precision'] is None
  assert genres['News']['roc_auc'] is None


def test_fitted_metrics_are_at_their_operating_points():
  fitted = dataclasses.replace(
    calibration.identity(GENRES),
    thresholds={
      'micro_f1': np.array([0.5, 0.5, 0.5, 0.7]),
      'macro_f1': np.full(4, 0.5),
      'exact_match': np.full(4, 0.65),
    },
  )
  made = make(calibration=fitted)['metrics']
  # At 'micro_f1' War is never predicted: 3 of 4 predictions are correct, of 4.
  assert made['micro_f1_fitted']['value'] == pytest.approx(2 * 3 / (4 + 4))
  assert made['exact_match']['value'] == pytest.approx(2 / 3)
  # At 0.65 the second poster loses War, and the third is correct.
  assert made['exact_match_fitted']['value'] == pytest.approx(2 / 3)
  # The constant baseline is the best set: Drama alone is correct for the third
  # poster. For F1, Drama, Comedy and War have 4 correct of 9 predictions, with
  # 4 labels.
  baseline = {name: made[name]['constant_baseline'] for name in made}
  assert baseline['exact_match_fitted'] == pytest.approx(1 / 3)
  assert baseline['micro_f1_fitted'] == pytest.approx(2 * 4 / (9 + 4))


def write(folder, content):
  folder.mkdir(parents=True, exist_ok=True)
  split_metrics.write(content, epath.Path(folder))


def test_reports_are_read_as_written(tmp_path):
  report = make()
  write(tmp_path, report)

  def reject(constant):
    raise AssertionError(f'{constant} is not JSON')

  text = (tmp_path / split_metrics.FILE_NAME).read_text()
  assert json.loads(text, parse_constant=reject) == report
  found = split_metrics.read(tmp_path, step=7, genres=GENRES)
  assert found == report


def test_report_of_the_checkpoint_is_preferred(tmp_path):
  read, read_any = (
    lambda step, read=read: read(tmp_path, step=step, genres=GENRES)
    for read in (split_metrics.read, split_metrics.read_any)
  )
  assert read(9) is None
  assert read_any(9) is None
  write(tmp_path, make())
  assert read(9) is None
  assert read_any(9)['step'] == 7
  write(tmp_path / 'eval' / 'validation_9', {**make(), 'step': 9})
  assert read(9)['step'] == read_any(9)['step'] == 9


@pytest.mark.parametrize(
  'change',
  [{'genres': {}}, {'metrics': {'a': 1}}, {'num_examples': 'many'}],
)
def test_invalid_report_is_rejected(tmp_path, change, caplog):
  write(tmp_path, {**make(), **change})
  with pytest.raises(errors.InputError, match=r'metrics\.json is invalid'):
    split_metrics.read(tmp_path, step=7, genres=GENRES)
  assert split_metrics.read_any(tmp_path, step=7, genres=GENRES) is None
  assert 'No metrics are shown' in caplog.text


def test_tables():
  made = make()
  assert '0.9167' in split_metrics.format_metrics(made)
  lines = split_metrics.format_genres(made).splitlines()
  assert lines[2].split() == ['Drama', '1.0000', '1.0000', '2', '60.00%']
  assert lines[-1].split() == ['News', '-', '-', '0', 'none']
  assert 'over 3 of 4 genres' in split_metrics.format_metrics(made)
