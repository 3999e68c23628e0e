import numpy as np

from genre_flax.datasets.posters import combination_counts

LABELS = np.array(
  [[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 0]]
)


def test_the_most_frequent_come_first_and_of_equal_ones_the_first_genres():
  assert combination_counts.count(LABELS) == [
    ((0,), 2),
    ((1, 2), 2),
    ((0, 1), 1),
    ((2,), 1),
  ]


def test_there_are_not_too_many(monkeypatch):
  monkeypatch.setattr(combination_counts, 'MAX_COUNTS', 2)
  assert combination_counts.count(LABELS) == [((0,), 2), ((1, 2), 2)]


def test_without_posters_there_are_none():
  assert combination_counts.count(np.zeros((0, 3))) == []
