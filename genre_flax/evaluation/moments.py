"""Which probabilities of combinations have given sums for each genre.

The p(S) ~ exp(sum of a_g over g in S) * prior(S) are an exponential family: the
sums of p over the combinations of each genre, its moments, tell the a_g, and so
p (Wainwright and Jordan, 2008, section 3). They are found by Newton's method.
"""

import numpy as np
from scipy import special

# Examples at once, whose covariances fit into the processor's caches.
_AT_ONCE = 64
# Moments nearer to 0 or 1 are taken as this.
_MIN_MOMENT = 1e-6
# Steps are damped, where genres hardly vary, and kept short.
_DAMPING = 1e-5
_MAX_STEP = 2.0
_MAX_STEPS = 30
_TOLERANCE = 1e-5


def match(
  wanted: np.ndarray, *, members: np.ndarray, log_prior: np.ndarray
) -> np.ndarray:
  """The probabilities whose moments are those wanted.

  Args:
    wanted: [N, L], of each genre. What no probabilities have leads to some that
      have others.
    members: bool [K, L], the genres of each combination; each genre is in some
      of them, and not in all.
    log_prior: [K], of the combinations.

  Returns:
    [N, K]; the sum of each row is 1.
  """
  wanted = np.clip(wanted, _MIN_MOMENT, 1 - _MIN_MOMENT)
  members = members.astype(float)
  found = np.empty((len(wanted), len(members)))
  for start in range(0, len(wanted), _AT_ONCE):
    rows = slice(start, start + _AT_ONCE)
    found[rows] = _match(wanted[rows], members, log_prior)
  return found


def _match(wanted, members, log_prior):
  a = special.logit(wanted)
  damping = _DAMPING * np.eye(members.shape[1])
  for _ in range(_MAX_STEPS):
    p = special.softmax(a @ members.T + log_prior, axis=1)
    moments = p @ members
    error = wanted - moments
    if np.abs(error).max(initial=0.0) < _TOLERANCE:
      break
    covariance = (members.T * p[:, None]) @ members
    covariance -= moments[:, :, None] * moments[:, None]
    step = np.linalg.solve(covariance + damping, error[..., None])[..., 0]
    longest = np.abs(step).max(axis=1, keepdims=True)
    a += step * (_MAX_STEP / np.maximum(longest, _MAX_STEP))
  return p
