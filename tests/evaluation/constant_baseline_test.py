"""Tests of the constant baseline."""

import itertools

import numpy as np
import pytest

from genre_flax.evaluation import constant_baseline


def test_hand_computed():
  # Genre 0 in five posters, always with 1; 2, 3 and 4 alone in two each.
  counts = [((0, 1), 5), ((2,), 2), ((3,), 2), ((4,), 2)]
  assert constant_baseline.find(counts, num_genres=5) == {
    # 0 and 1 cover the same posters.
    'hit_at_3': (0, 2, 3),
    # Half the genres of five posters are 2.5; all of two are 2.
    'recall_at_3': (0, 1, 2),
    'precision_at_3': (0, 1, 2),
  }


def random_counts(seed, *, num_posters, num_genres):
  rng = np.random.default_rng(seed)
  labels = rng.random((num_posters, num_genres)) < rng.random(num_genres) * 0.5
  labels[:, 0] |= ~labels.any(axis=1)
  return labels, [(tuple(np.flatnonzero(row)), 1) for row in labels]


@pytest.mark.parametrize('seed', range(5))
def test_no_other_three_genres_are_better(seed):
  labels, counts = random_counts(seed, num_posters=60, num_genres=7)

  def score(metric, genres):
    correct = labels[:, list(genres)].sum(axis=1)
    return {
      'hit_at_3': (correct > 0).mean(),
      'recall_at_3': (correct / labels.sum(axis=1)).mean(),
      'precision_at_3': correct.mean() / 3,
    }[metric]

  best = constant_baseline.find(counts, num_genres=7)
  for metric, genres in best.items():
    assert score(metric, genres) == pytest.approx(
      max(score(metric, g) for g in itertools.combinations(range(7), 3))
    )


def test_greedy_cover_of_many_genres_is_near_the_best(monkeypatch):
  labels, counts = random_counts(0, num_posters=200, num_genres=9)
  best = constant_baseline.find(counts, num_genres=9)['hit_at_3']
  monkeypatch.setattr(constant_baseline, '_MAX_TRIED', 1)
  greedy = constant_baseline.find(counts, num_genres=9)['hit_at_3']
  assert len(set(greedy)) == 3
  covered = [labels[:, list(g)].any(axis=1).sum() for g in (greedy, best)]
  assert covered[0] >= 0.63 * covered[1]


@pytest.mark.parametrize('counts', [[((0,), 1), ((0, 1), 1)], []])
def test_fewer_than_three_genres_or_no_posters(counts):
  best = constant_baseline.find(counts, num_genres=2)
  assert set(best.values()) == {(0, 1)}
