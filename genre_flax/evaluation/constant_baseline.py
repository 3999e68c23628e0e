"""The three genres to name where every poster gets the same answer.

What they score is what a metric is worth to who looks at no poster.
"""

import itertools
import math

import numpy as np

METRICS = ('hit_at_3', 'recall_at_3', 'precision_at_3')
NUM_NAMED = 3
# Sets of genres that are all tried; with more, the best is approached.
_MAX_SETS = 20_000


def find(labels: np.ndarray) -> dict[str, tuple[int, ...]]:
  """The answers that score highest on these posters.

  Recall and precision are sums over the named genres, so the best three are the
  three best. Hits are not: which posters have one of several genres is the
  problem of maximum coverage. All sets of three are tried, or, where these are
  too many, genres are added one by one, which covers at least 1 - 1/e of what
  can be covered (Nemhauser et al., 1978).

  Args:
    labels: [N, L] of 0 and 1.

  Returns:
    Indices of min(3, L) genres for 'hit_at_3', 'recall_at_3' and
    'precision_at_3'; of equal ones the first.
  """
  labels = np.asarray(labels, bool)
  sizes = np.maximum(labels.sum(axis=1), 1)
  return {
    'hit_at_3': _best_cover(labels),
    'recall_at_3': _first_of((labels / sizes[:, None]).sum(axis=0)),
    'precision_at_3': _first_of(labels.sum(axis=0)),
  }


def _first_of(values: np.ndarray) -> tuple[int, ...]:
  """The indices of the greatest values."""
  best = np.argsort(-np.round(values, 9), kind='stable')[:NUM_NAMED]
  return tuple(best.tolist())


def _best_cover(labels: np.ndarray) -> tuple[int, ...]:
  """The genres of which most posters have at least one."""
  num_genres = labels.shape[1]
  size = min(NUM_NAMED, num_genres)
  # Many posters have the same genres.
  kinds, counts = np.unique(labels, axis=0, return_counts=True)

  def covered(genres):
    return counts[kinds[:, list(genres)].any(axis=1)].sum()

  if math.comb(num_genres, size) <= _MAX_SETS:
    return max(itertools.combinations(range(num_genres), size), key=covered)
  chosen: tuple[int, ...] = ()
  for _ in range(size):
    rest = [i for i in range(num_genres) if i not in chosen]
    chosen += (max(rest, key=lambda i: covered((*chosen, i))),)
  return chosen
