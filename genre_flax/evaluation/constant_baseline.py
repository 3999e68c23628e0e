"""The constant baseline: the same three genres for every poster.

Its scores are the level that a network has to exceed.
"""

from collections.abc import Sequence
import itertools
import math

import numpy as np

from genre_flax.evaluation import label_sets as label_sets_lib

_NUM_GENRES = 3
# Up to so many sets of genres are all tried.
_MAX_TRIED = 20_000


def find(
  counts: Sequence[label_sets_lib.Count], *, num_genres: int
) -> dict[str, tuple[int, ...]]:
  """The genres that maximize each metric on a training split.

  Recall and precision are sums over the predicted genres, so the best three are
  the three best. The best hits are a problem of maximum coverage: all sets of
  three are tried or, if these are too many, genres are added greedily, which
  covers at least 1 - 1/e of the maximum (Nemhauser et al., 1978).

  Returns:
    Indices of min(3, num_genres) genres for 'hit_at_3', 'recall_at_3' and
    'precision_at_3'; of ties the first.
  """
  members = label_sets_lib.to_members(
    [genres for genres, _ in counts], num_genres=num_genres
  )
  posters = np.array([number for _, number in counts], int)
  sizes = np.maximum(members.sum(axis=1), 1)
  return {
    'hit_at_3': _best_cover(members, posters),
    'recall_at_3': _largest((posters / sizes) @ members),
    'precision_at_3': _largest(posters @ members),
  }


def _largest(values: np.ndarray) -> tuple[int, ...]:
  """The indices of the largest values."""
  order = np.argsort(-np.round(values, 9), kind='stable')
  return tuple(order[:_NUM_GENRES].tolist())


def _best_cover(members: np.ndarray, posters: np.ndarray) -> tuple[int, ...]:
  """The genres of which most posters have at least one."""
  num_genres = members.shape[1]
  size = min(_NUM_GENRES, num_genres)

  def covered(genres):
    return posters[members[:, list(genres)].any(axis=1)].sum()

  if math.comb(num_genres, size) <= _MAX_TRIED:
    return max(itertools.combinations(range(num_genres), size), key=covered)
  chosen: tuple[int, ...] = ()
  for _ in range(size):
    others = [i for i in range(num_genres) if i not in chosen]
    chosen += (max(others, key=lambda i: covered((*chosen, i))),)
  return chosen
