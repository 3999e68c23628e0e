import dataclasses
import json

from etils import epath
import numpy as np
import pytest
from scipy import special

from genre_flax.evaluation import calibration
from genre_flax.evaluation import combinations
from genre_flax.evaluation import evaluator
from genre_flax.evaluation import metrics
from genre_flax.reports import split_metrics

GENRES = ('Comedy', 'Drama', 'News', 'War')
SCORES = np.array(
  [[0.9, 0.2, 0.1, 0.3], [0.1, 0.8, 0.2, 0.6], [0.6, 0.7, 0.3, 0.1]]
)


@pytest.fixture
def predictions():
  scores = SCORES
  labels = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0]], np.float32)
  return evaluator.Predictions(special.logit(scores), labels)


def make(predictions, **kwargs):
  options = {
    'calibration': calibration.identity(GENRES),
    'bootstrap_samples': 50,
    'constant_answers': {},
    **kwargs,
  }
  return split_metrics.make_report(
    predictions, label_prior=np.array([0.4, 0.6, 0.0, 0.1]), **options
  )


def test_has_every_metric_with_value_interval_and_trivial(predictions):
  made = make(predictions)
  assert made['num_examples'] == 3
  p = np.where(predictions.labels > 0, SCORES, 1 - SCORES)
  assert made['loss'] == pytest.approx(-np.log(p).sum(axis=1).mean())
  assert made['metrics'].keys() == metrics.METRICS.keys() | {
    'exact_match_fitted',
    'micro_f1_fitted',
    'macro_f1_fitted',
    'hit_at_3_together',
    'recall_at_3_together',
    'precision_at_3_together',
  }
  # 11 of 12 decisions are right; the prior decides Drama for all: 8 of 12.
  accuracy = made['metrics']['accuracy']
  assert accuracy['value'] == pytest.approx(11 / 12)
  assert accuracy['trivial'] == pytest.approx(8 / 12 + 1 / 12)
  assert accuracy['low'] <= accuracy['value'] <= accuracy['high']


def test_the_trivial_answer_is_the_best_constant_one_of_its_metric(
  predictions,
):
  # The prior names Drama, Comedy, War, which hits all posters; News, War and
  # Comedy hit two of three, and have 1 / 1, 1 / 2 and 0 / 1 of their genres.
  made = make(predictions)['metrics']
  assert made['hit_at_3']['trivial'] == 1.0
  answers = dict.fromkeys(('hit_at_3', 'recall_at_3'), (2, 3, 0))
  made = make(predictions, constant_answers=answers)['metrics']
  assert made['hit_at_3']['trivial'] == pytest.approx(2 / 3)
  assert made['recall_at_3']['trivial'] == pytest.approx(1.5 / 3)
  assert made['precision_at_3']['trivial'] == pytest.approx(4 / 9)


def test_genres_have_support_and_none_where_a_metric_is_undefined(predictions):
  genres = make(predictions)['genres']
  assert {name: genre['support'] for name, genre in genres.items()} == {
    'Comedy': 1,
    'Drama': 2,
    'News': 0,
    'War': 1,
  }
  assert genres['News']['average_precision'] is None
  assert genres['News']['roc_auc'] is None
  assert genres['War']['average_precision'] == 1.0


def test_genres_count_the_posters_that_are_given_them(predictions):
  genres = make(predictions)['genres']
  # Each poster leaves out its lowest score.
  named = {name: genre['in_top_three'] for name, genre in genres.items()}
  assert named == {'Comedy': 2, 'Drama': 3, 'News': 2, 'War': 2}
  decided = {name: genre['decided'] for name, genre in genres.items()}
  assert decided == {'Comedy': 2, 'Drama': 2, 'News': 0, 'War': 1}


def test_fitted_metrics_are_those_of_the_fitted_decisions(predictions):
  fitted = dataclasses.replace(
    calibration.identity(GENRES),
    thresholds={
      'micro_f1': np.array([0.5, 0.5, 0.5, 0.7]),
      'macro_f1': np.full(4, 0.5),
      'exact_match': np.full(4, 0.65),
    },
  )
  made = make(predictions, calibration=fitted)['metrics']
  # At 'micro_f1' War is decided for no poster: 3 right of 4 decided, of 4.
  assert made['micro_f1_fitted']['value'] == pytest.approx(2 * 3 / (4 + 4))
  assert made['exact_match']['value'] == pytest.approx(2 / 3)
  # At 0.65 the second poster loses War, the third is right.
  assert made['exact_match_fitted']['value'] == pytest.approx(2 / 3)


def test_the_three_that_say_most_together_have_metrics(predictions):
  # Comedy and News come together, so they are not both named.
  found = combinations.from_counts(
    [((0, 2), 6), ((1,), 5), ((3,), 1)],
    num_genres=4,
    sharpness=1.0,
    weight=1.0,
  )
  fitted = dataclasses.replace(calibration.identity(GENRES), combinations=found)
  made = make(predictions, calibration=fitted)['metrics']
  three = fitted.decide(
    fitted.to_scores(predictions.logits), calibration.THREE_TOGETHER
  )
  np.testing.assert_array_equal(three[:, [1, 3]], True)
  right = (three & (predictions.labels > 0)).sum(axis=1)
  recall = right / predictions.labels.sum(axis=1)
  assert made['recall_at_3_together']['value'] == pytest.approx(recall.mean())
  assert made['hit_at_3_together']['value'] == pytest.approx((right > 0).mean())
  assert made['precision_at_3_together']['value'] == pytest.approx(
    (right / 3).mean()
  )
  assert made['hit_at_3_together']['trivial'] == made['hit_at_3']['trivial']


def test_the_trivial_answer_of_a_fitted_metric_is_the_best_constant_set(
  predictions,
):
  made = make(predictions)['metrics']
  # Drama alone for all is right for the third poster. For F1, Drama, Comedy and
  # War give 4 right of 9 decided, with 4 to be found.
  assert made['exact_match_fitted']['trivial'] == pytest.approx(1 / 3)
  assert made['micro_f1_fitted']['trivial'] == pytest.approx(2 * 4 / (9 + 4))


def test_without_a_bootstrap_there_are_no_intervals(predictions):
  entry = make(predictions, bootstrap_samples=0)['metrics']['recall_at_3']
  assert entry['low'] is None
  assert entry['high'] is None


def test_is_strict_json(predictions, tmp_path):
  made = make(predictions)
  path = split_metrics.write_report(made, epath.Path(tmp_path))

  def refuse(constant):
    raise AssertionError(f'{constant} is not JSON')

  assert json.loads(path.read_text(), parse_constant=refuse) == made


def test_tables_have_a_line_for_each_metric_and_genre(predictions):
  made = make(predictions)
  table = split_metrics.format_metrics(made)
  for name in metrics.METRICS:
    assert name in table
  assert '0.9167' in table
  lines = split_metrics.format_genres(made).splitlines()
  assert lines[2].split() == ['Drama', '1.0000', '1.0000', '2']
  assert lines[-1].split() == ['News', '-', '-', '0']


def test_the_top_three_line():
  line = split_metrics.format_top_three(
    'poster.jpg', np.array([0.2, 0.62, 0.01, 0.414]), GENRES
  )
  assert line == 'poster.jpg  Drama 0.62  War 0.41  Comedy 0.20'
