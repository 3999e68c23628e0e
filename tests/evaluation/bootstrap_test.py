"""Tests of confidence intervals."""

import numpy as np
import pytest

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import metrics


def test_interval_of_a_mean_matches_the_normal_approximation():
  # Half of 400 predictions are correct: the standard error is 0.5 / 20.
  labels = np.ones((400, 1))
  scores = np.repeat([[0.9], [0.1]], 200, axis=0)
  inputs = metrics.Inputs(scores, labels)
  value, low, high = bootstrap.intervals(inputs, num_samples=2000)['accuracy']
  assert value == 0.5
  assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
  assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_intervals_contain_the_value_if_resamples_are_biased():
  # Two positives per genre: repeating them increases average precision.
  rng = np.random.default_rng(0)
  labels = np.zeros((200, 20))
  for genre in range(20):
    labels[rng.choice(200, 2, replace=False), genre] = 1
  scores = rng.random(labels.shape)
  inputs = metrics.Inputs(scores, labels)
  value, low, high = bootstrap.intervals(inputs, num_samples=200)[
    'mean_average_precision'
  ]
  assert low < value < high


def test_intervals_stay_in_the_range_of_the_metric():
  rng = np.random.default_rng(0)
  labels = np.zeros((200, 20))
  labels[rng.choice(200, 3, replace=False)] = 1
  scores = rng.random(labels.shape) + labels * rng.random(labels.shape)
  found = bootstrap.per_genre(scores, labels, num_samples=200)
  ends = np.array([e[1:] for each in found.values() for e in each])
  assert ends.min() == 0 and ends.max() <= 1


def group(*values, num_samples=4000):
  """Runs whose metric is the same for all resamples of the examples."""
  return [{'accuracy': np.full(1 + num_samples, value)} for value in values]


def test_the_interval_of_a_difference_covers_the_variation_between_runs():
  # The mean of two runs that differ by 0.2 has the standard error 0.1. There
  # are three resamples of them: with both runs, or one of them twice.
  difference = bootstrap.differences(group(0.5, 0.7), group(0.4))['accuracy']
  spread = 0.1 * np.sqrt(2)
  expected = 0.2, 0.2 - spread, 0.2 + spread
  assert difference == pytest.approx(expected, abs=0.01)
  # The standard errors of two groups add up.
  runs = np.linspace(0.2, 0.6, 12)
  error = np.sqrt(2 * runs.var(ddof=1) / 12)
  _, low, high = bootstrap.differences(group(*runs), group(*runs))['accuracy']
  assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_groups_of_one_run_differ_on_the_same_resamples():
  rng = np.random.default_rng(0)
  labels = (rng.random((50, 3)) < 0.4).astype(float)
  scores = rng.random(labels.shape)
  one, other = (
    bootstrap.samples(metrics.Inputs(each, labels), num_samples=100)
    for each in (scores, np.where(labels > 0, 1 - scores, scores))
  )
  found = bootstrap.differences([one], [other])
  assert found['hit_at_3'] == (0, 0, 0)
  assert found['cross_entropy'].value == pytest.approx(
    one['cross_entropy'][0] - other['cross_entropy'][0]
  )
  assert set(bootstrap.differences([one], [one]).values()) == {(0, 0, 0)}


def test_resamples_do_not_depend_on_block_size(monkeypatch):
  def all_weights():
    return np.concatenate(
      list(bootstrap.resample_weights(30, num_samples=120, seed=3))
    )

  expected = all_weights()
  monkeypatch.setattr(bootstrap, '_MAX_WEIGHTS', 100)
  np.testing.assert_array_equal(all_weights(), expected)
