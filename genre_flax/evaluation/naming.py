"""Which genres to name of a poster where a given number is asked for.

Those with the highest scores are likely, each for itself, but say the same
twice: where Horror is wrong, Thriller mostly is too. So those are named that
say most together. Of the combinations S of genres that a poster may have, the
set T is good by

  E[ |T and S| / |S| ] + P(T and S share a genre),

what is expected of recall and of a hit. A genre adds the less to the chance of
a hit, the more are named already, and to recall always the same, so taking the
best one by one comes near the best set (Nemhauser et al., 1978).
"""

import numpy as np


def name_together(
  probabilities: np.ndarray, members: np.ndarray, *, k: int
) -> np.ndarray:
  """The genres that say most together.

  Args:
    probabilities: [N, K], of the combinations.
    members: bool [K, L], the genres of each.
    k: how many to name; at most L are.

  Returns:
    int [N, min(k, L)], the most telling first; of equal ones the genre that
    comes first. What no combination has is named last.
  """
  members = members.astype(float)
  recall = (probabilities / np.maximum(members.sum(axis=1), 1)) @ members
  is_missed = probabilities.copy()
  named = np.empty((len(recall), min(k, members.shape[1])), int)
  for place in range(named.shape[1]):
    gain = recall + is_missed @ members
    np.put_along_axis(gain, named[:, :place], -np.inf, axis=1)
    named[:, place] = gain.argmax(axis=1)
    is_missed *= 1 - members.T[named[:, place]]
  return named
