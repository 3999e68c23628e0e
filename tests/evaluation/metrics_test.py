"""Tests of metrics."""

import functools

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking


def random_split(seed=0, num_examples=60, num_genres=7, decimals=2):
  """Scores with many ties; at least one positive label per poster."""
  rng = np.random.default_rng(seed)
  labels = (rng.random((num_examples, num_genres)) < 0.25).astype(float)
  labels[np.arange(num_examples), rng.integers(0, num_genres, num_examples)] = 1
  scores = np.round(0.3 * labels + 0.7 * rng.random(labels.shape), decimals)
  return scores, labels


def value(name, scores, labels):
  return metrics.compute(scores, labels, names=(name,))[name]


def weighted_values(scores, labels, weights):
  inputs = metrics.Inputs(scores, labels)
  return inputs.compute(weights.astype(float))


@pytest.mark.parametrize('block', [1, 7, 64, 1000])
@pytest.mark.parametrize('decimals', [0, 1, 12])
def test_blocks_do_not_change_results(monkeypatch, block, decimals):
  """Ties may cross the end of a block."""
  scores, labels = random_split(decimals=decimals)
  weights = np.random.default_rng(1).integers(0, 4, (3, 60)).astype(float)
  whole = weighted_values(scores, labels, weights)
  monkeypatch.setattr(ranking, '_BLOCK', block)
  pieces = weighted_values(scores, labels, weights)
  for name, values in whole.items():
    np.testing.assert_allclose(pieces[name], values, rtol=1e-12)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('decimals', [1, 2, 12])
def test_ranking_metrics_equal_scikit_learn(seed, decimals):
  scores, labels = random_split(seed, decimals=decimals)
  average_precision = sklearn_metrics.average_precision_score
  expected = {
    'mean_average_precision': average_precision(labels, scores),
    'micro_average_precision': average_precision(
      labels, scores, average='micro'
    ),
    'mean_roc_auc': sklearn_metrics.roc_auc_score(labels, scores),
  }
  assert metrics.compute(scores, labels, names=tuple(expected)) == (
    pytest.approx(expected, abs=1e-6)
  )


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('thresholds', [None, np.linspace(0.2, 0.8, 7)])
def test_threshold_metrics_equal_scikit_learn(seed, thresholds):
  scores, labels = random_split(seed)
  predicted = scores >= (0.5 if thresholds is None else thresholds)
  got = metrics.compute(
    scores, labels, predicted=None if thresholds is None else predicted
  )
  f1 = functools.partial(
    sklearn_metrics.f1_score, labels, predicted, zero_division=0
  )
  expected = {
    'accuracy': 1 - sklearn_metrics.hamming_loss(labels, predicted),
    'exact_match': sklearn_metrics.accuracy_score(labels, predicted),
    'micro_f1': f1(average='micro'),
    'macro_f1': f1(average='macro'),
  }
  assert {name: got[name] for name in expected} == pytest.approx(expected)


def test_cross_entropy_is_the_sum_of_the_log_losses_of_scikit_learn():
  scores, labels = random_split()
  scores = np.clip(scores, 0.01, 0.99)
  expected = sum(
    sklearn_metrics.log_loss(labels[:, i], scores[:, i], labels=[0, 1])
    for i in range(labels.shape[1])
  )
  assert value('cross_entropy', scores, labels) == pytest.approx(expected)
  certain = value('cross_entropy', np.array([[0.0, 1.0]]), np.array([[1, 1]]))
  assert certain == pytest.approx(-np.log(np.finfo(float).eps))


def test_fitted_metrics_are_of_the_genres_at_their_operating_point():
  scores, labels = random_split()
  fitted = {'macro_f1': scores >= 0.3}
  inputs = metrics.Inputs(scores, labels, fitted=fitted)
  values = inputs.compute(np.ones((1, len(scores))))
  assert values.keys() == {*metrics.METRICS, 'macro_f1_fitted'}
  expected = sklearn_metrics.f1_score(
    labels, fitted['macro_f1'], average='macro', zero_division=0
  )
  assert values['macro_f1_fitted'][0] == pytest.approx(expected)
  assert values['macro_f1'][0] != pytest.approx(expected)


def test_means_omit_genres_without_positives_or_negatives():
  scores, labels = random_split(3)
  labels[:, 2] = 0
  labels[:, 4] = 1

  def mean(metric, genres):
    return np.mean([metric(labels[:, i], scores[:, i]) for i in genres])

  assert value('mean_average_precision', scores, labels) == pytest.approx(
    mean(sklearn_metrics.average_precision_score, [0, 1, 3, 4, 5, 6])
  )
  assert value('mean_roc_auc', scores, labels) == pytest.approx(
    mean(sklearn_metrics.roc_auc_score, [0, 1, 3, 5, 6])
  )


def test_weights_are_sample_weights_of_scikit_learn():
  scores, labels = random_split(1)
  weights = np.random.default_rng(0).integers(0, 4, len(scores)).astype(float)
  ranked = ranking.Ranked.by_genre(scores, labels)
  for metric, reference in (
    (ranking.average_precision, sklearn_metrics.average_precision_score),
    (ranking.roc_auc, sklearn_metrics.roc_auc_score),
  ):
    expected = [
      reference(labels[:, i], scores[:, i], sample_weight=weights)
      for i in range(labels.shape[1])
    ]
    np.testing.assert_allclose(metric(ranked, weights[None])[0], expected)


def test_weights_are_repetitions_of_examples():
  scores, labels = random_split(5)
  counts = np.random.default_rng(2).integers(0, 3, (3, len(scores)))
  weighted = weighted_values(scores, labels, counts)
  for i, row in enumerate(counts):
    repeated = metrics.compute(
      np.repeat(scores, row, axis=0), np.repeat(labels, row, axis=0)
    )
    got = {name: values[i] for name, values in weighted.items()}
    assert got == pytest.approx(repeated, abs=1e-12)


def test_top3_metrics_against_hand_computed_values():
  # The top-3 predictions are 3, 0, 1 and 4, 2, 0.
  scores = np.array([[0.6, 0.5, 0.1, 0.9, 0.2], [0.3, 0.1, 0.4, 0.0, 0.8]])
  labels = np.array([[1.0, 0, 1, 1, 0], [0, 1, 0, 0, 0]])
  assert metrics.top_k(scores).tolist() == [[3, 0, 1], [4, 2, 0]]
  assert value('precision_at_3', scores, labels) == pytest.approx(1 / 3)
  assert value('recall_at_3', scores, labels) == pytest.approx(1 / 3)
  assert value('hit_at_3', scores, labels) == 0.5


def test_top_k_of_ties_and_of_fewer_than_three_genres():
  assert metrics.top_k(np.full((1, 5), 0.5)).tolist() == [[0, 1, 2]]
  assert metrics.top_k(np.array([[0.1, 0.9]])).tolist() == [[1, 0]]


@pytest.mark.parametrize(
  'scores, labels, message',
  [
    (np.zeros((3, 2)), np.zeros((3, 3)), r'\(3, 2\).*\(3, 3\)'),
    (np.zeros((0, 3)), np.zeros((0, 3)), 'at least one example'),
    (np.full((4, 3), np.nan), np.zeros((4, 3)), '12 of 12 .* not finite'),
  ],
)
def test_invalid_input_is_rejected(scores, labels, message):
  with pytest.raises(ValueError, match=message):
    metrics.compute(scores, labels)
