import itertools

import numpy as np
import pytest

from genre_flax.evaluation import calibration
from genre_flax.evaluation import calibration_fit
from genre_flax.evaluation import metrics
from genre_flax.evaluation import naming
from tests.evaluation import combinations_test

# Of 100 posters like this one 50 are Horror and Thriller, 30 Comedy, 20 Drama.
GENRES = ('Comedy', 'Drama', 'Horror', 'Thriller')
MEMBERS = np.array([[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0]], bool)
P = np.array([[0.5, 0.3, 0.2]])


def worth(named, p, members):
  """The expected recall and the chance of a hit, of the definition."""
  total = 0.0
  for chance, combination in zip(p, members, strict=True):
    genres = set(np.flatnonzero(combination))
    common = len(genres & set(named))
    total += chance * (common / max(len(genres), 1) + (common > 0))
  return total


def test_those_that_say_the_same_are_not_both_named():
  # By score it would be Horror and Thriller, wrong together half of the time.
  assert naming.name_together(P, MEMBERS, k=2).tolist() == [[2, 0]]
  assert naming.name_together(P, MEMBERS, k=3).tolist() == [[2, 0, 1]]


def test_as_many_as_are_asked_for_and_there_are():
  assert naming.name_together(P, MEMBERS, k=0).shape == (1, 0)
  assert sorted(naming.name_together(P, MEMBERS, k=9)[0]) == [0, 1, 2, 3]
  # A poster without a genre has nothing to be right about.
  none = np.zeros((1, 2), bool)
  assert naming.name_together(np.ones((1, 1)), none, k=1).tolist() == [[0]]


@pytest.mark.parametrize('seed', range(20))
def test_they_come_near_the_best_of_all_sets(seed):
  rng = np.random.default_rng(seed)
  members = np.unique(rng.random((30, 8)) < 0.25, axis=0)
  p = rng.dirichlet(np.full(len(members), 0.3))
  best = max(
    worth(three, p, members) for three in itertools.combinations(range(8), 3)
  )
  [three] = naming.name_together(p[None], members, k=3)
  assert worth(three, p, members) > 0.98 * best


def test_more_posters_are_hit_than_by_the_highest_scores():
  logits, labels = combinations_test.draw(0, 2000, noise=4.0)
  fitted = calibration_fit.fit(
    logits, labels, genres=GENRES, counts=combinations_test.COUNTS
  )
  logits, labels = combinations_test.draw(1, 2000, noise=4.0)
  scores = fitted.to_scores(logits)
  three = fitted.decide(scores, calibration.THREE_TOGETHER)
  assert (three.sum(axis=1) == 3).all()
  names = ('hit_at_3', 'recall_at_3')
  plain = metrics.compute(scores, labels, names=names)
  together = metrics.compute(scores, labels, decided=three, names=names)
  assert together['hit_at_3'] > plain['hit_at_3'] + 0.005
  assert together['recall_at_3'] > plain['recall_at_3'] - 0.002


def test_where_no_combinations_are_known_the_highest_scores_are_named():
  scores = np.array([[0.1, 0.4, 0.3, 0.2], [0.5, 0.5, 0.5, 0.5]])
  decided = calibration.identity(GENRES).decide(
    scores, calibration.THREE_TOGETHER
  )
  np.testing.assert_array_equal(decided, [[0, 1, 1, 1], [1, 1, 1, 0]])
