import itertools

import numpy as np
import pytest

from genre_flax.evaluation import constant_baseline


def test_worked_out_by_hand():
  # Genre 0 in five posters, always with 1; 2, 3 and 4 alone in two each.
  labels = np.zeros((11, 5), int)
  labels[:5, :2] = 1
  labels[5:7, 2] = labels[7:9, 3] = labels[9:11, 4] = 1
  found = constant_baseline.find(labels)
  # 0 or 1 covers five; the other of the two would cover nothing more.
  assert found['hit_at_3'] == (0, 2, 3)
  # Half a poster's genres five times are 2.5; whole ones twice are 2.
  assert found['recall_at_3'] == (0, 1, 2)
  assert found['precision_at_3'] == (0, 1, 2)


def test_recall_weighs_genres_of_posters_with_few():
  labels = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 1]])
  assert constant_baseline.find(labels)['recall_at_3'] == (4, 0, 1)
  assert constant_baseline.find(labels)['precision_at_3'] == (0, 1, 2)


@pytest.mark.parametrize('seed', range(5))
def test_no_other_three_are_better(seed):
  rng = np.random.default_rng(seed)
  labels = (rng.random((60, 7)) < rng.random(7) * 0.5).astype(int)
  labels[:, 0] |= ~labels.any(axis=1)
  found = constant_baseline.find(labels)

  def score(metric, named):
    right = labels[:, list(named)].sum(axis=1)
    return {
      'hit_at_3': (right > 0).mean(),
      'recall_at_3': (right / labels.sum(axis=1)).mean(),
      'precision_at_3': right.mean() / 3,
    }[metric]

  for metric, named in found.items():
    best = max(
      score(metric, other) for other in itertools.combinations(range(7), 3)
    )
    assert score(metric, named) == pytest.approx(best)


def test_with_many_genres_the_cover_is_near_the_best(monkeypatch):
  labels = np.random.default_rng(0).random((200, 9)) < 0.2
  best = constant_baseline.find(labels)['hit_at_3']
  monkeypatch.setattr(constant_baseline, '_MAX_SETS', 1)
  found = constant_baseline.find(labels)['hit_at_3']
  assert len(set(found)) == 3
  covered = [
    labels[:, list(named)].any(axis=1).sum() for named in (found, best)
  ]
  assert covered[0] >= 0.63 * covered[1]


def test_fewer_genres_than_three():
  assert constant_baseline.find(np.array([[1, 0], [1, 1]]))['hit_at_3'] == (
    0,
    1,
  )
