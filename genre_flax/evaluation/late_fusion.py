"""Fits the late fusion of the branches of the image and of the text."""

from collections.abc import Callable

import numpy as np
from scipy import optimize

from genre_flax.models import text_branch

# Precision of the Gaussian prior of the scales about 1, in posters: it matters
# for small validation splits.
_PRECISION = 5.0


def fit(
  branches: np.ndarray,
  labels: np.ndarray,
  *,
  prior_logits: np.ndarray,
  loss_fn: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> dict[str, np.ndarray]:
  """Fits the scales of two branches to the loss on a validation split.

  The mean average precision is too noisy to choose them.

  Args:
    branches: [N, 2, L], logits of the image and of the text.
    labels: [N, L] of 0 and 1.
    prior_logits: [L], of the label prior.
    loss_fn: maps logits and labels [N, L] to losses [N].

  Returns:
    The variables of `text_branch.fuse`; the scales are not negative.
  """
  is_read = np.ones(len(branches), bool)

  def cost(scales):
    fusion = text_branch.make_fusion(scales, prior_logits=prior_logits)
    logits = text_branch.fuse(branches, fusion, has_text=is_read, xp=np)
    penalty = 0.5 * _PRECISION * np.square(np.asarray(scales) - 1).sum()
    return float(np.sum(loss_fn(logits, labels)) + penalty)

  result = optimize.minimize(
    cost,
    x0=(1.0, 1.0),
    bounds=((0.0, 3.0), (0.0, 3.0)),
    method='Nelder-Mead',
    options={'xatol': 1e-3, 'fatol': 1e-3, 'maxfev': 200},
  )
  return text_branch.make_fusion(result.x, prior_logits=prior_logits)
