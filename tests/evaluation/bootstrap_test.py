"""Tests of confidence intervals."""

import numpy as np
import pytest

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import metrics


def test_interval_of_a_mean_matches_the_normal_approximation():
  # Half of 400 predictions are correct: the standard error is 0.5 / 20.
  labels = np.ones((400, 1))
  scores = np.repeat([[0.9], [0.1]], 200, axis=0)
  low, high = bootstrap.intervals(scores, labels, num_samples=2000)['accuracy']
  assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.006)
  assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.006)


def test_intervals_contain_the_value_if_resamples_are_biased():
  # Two positives per genre: repeating them increases average precision.
  rng = np.random.default_rng(0)
  labels = np.zeros((200, 20))
  for genre in range(20):
    labels[rng.choice(200, 2, replace=False), genre] = 1
  scores = rng.random(labels.shape)
  value = metrics.compute(scores, labels)['mean_average_precision']
  low, high = bootstrap.intervals(scores, labels, num_samples=200)[
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


def test_resamples_do_not_depend_on_block_size(monkeypatch):
  def all_weights():
    return np.concatenate(
      list(bootstrap.resample_weights(30, num_samples=120, seed=3))
    )

  expected = all_weights()
  monkeypatch.setattr(bootstrap, '_MAX_WEIGHTS', 100)
  np.testing.assert_array_equal(all_weights(), expected)
