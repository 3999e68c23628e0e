"""Which genres posters have together, and how many have just these."""

from collections.abc import Sequence

import numpy as np

# The indices of the genres, ascending, and the number of posters.
Count = tuple[Sequence[int], int]
# What scoring them costs is small up to there; all others are rare.
MAX_COUNTS = 4096


def count(labels: np.ndarray) -> list[Count]:
  """Counts the combinations of genres.

  Args:
    labels: [N, L] of 0 and 1.

  Returns:
    At most MAX_COUNTS, the most frequent first; of equal ones that of the first
    genres.
  """
  kinds, counts = np.unique(
    np.asarray(labels, bool), axis=0, return_counts=True
  )
  found = [
    (tuple(np.flatnonzero(kind).tolist()), int(number))
    for kind, number in zip(kinds, counts, strict=True)
  ]
  return sorted(found, key=lambda one: (-one[1], one[0]))[:MAX_COUNTS]
