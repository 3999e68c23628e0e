"""From logits to probabilities one can trust, and to decisions.

Platt's scaling of each genre, what genres say of each other (`combinations`),
and an operating point for each metric of decisions: thresholds of the genres
for macro-F1, one threshold for all genres for micro-F1, for exact matches the
likeliest combination, and where three are named those that say most together
(`naming`). `calibration_fit` fits all of it to the validation split; it is kept
with the checkpoint, and then left alone.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
from scipy import special

from genre_flax.evaluation import combinations as combinations_lib
from genre_flax.evaluation import metrics
from genre_flax.runtime import errors

OPERATING_POINTS = ('micro_f1', 'macro_f1', 'exact_match')
# Three genres, those that say most together.
THREE_TOGETHER = 'three_together'
# Of each decision the metrics that tell of it, and what they are called then.
DECISIONS = {
  **{point: {point: f'{point}_fitted'} for point in OPERATING_POINTS},
  THREE_TOGETHER: {
    name: f'{name}_together'
    for name in ('hit_at_3', 'recall_at_3', 'precision_at_3')
  },
}


@dataclasses.dataclass(frozen=True)
class Calibration:
  """What turns a network's logits into scores and decisions.

  Attributes:
    genres: the label names.
    slope: [L], of Platt's scaling.
    intercept: [L], of Platt's scaling.
    thresholds: [L] for each of OPERATING_POINTS.
    combinations: of the genres; None where nothing is known of them, and each
      genre is scored for itself.
  """

  genres: tuple[str, ...]
  slope: np.ndarray
  intercept: np.ndarray
  thresholds: Mapping[str, np.ndarray]
  combinations: combinations_lib.Combinations | None = None

  def to_logits(self, logits: Any, xp: Any = np) -> Any:
    """The log-odds [N, L] of scores, of a network's logits [N, L].

    Args:
      logits: of the network.
      xp: numpy, or jax.numpy for arrays of JAX.
    """
    scaled = self.slope.astype(logits.dtype) * logits
    scaled = scaled + self.intercept.astype(logits.dtype)
    if self.combinations is None:
      return scaled
    return self.combinations.to_logits(scaled, xp)

  def to_scores(self, logits: np.ndarray) -> np.ndarray:
    """Probabilities [N, L], float64, of logits [N, L]."""
    return special.expit(self.to_logits(np.asarray(logits, np.float64)))

  def of_each_alone(self) -> 'Calibration':
    """The same scaling, where each genre is scored for itself."""
    return dataclasses.replace(self, combinations=None)

  def decide(self, scores: np.ndarray, point: str) -> np.ndarray:
    """The genres given to each poster at an operating point.

    Args:
      scores: [N, L], of `to_scores`.
      point: one of DECISIONS.

    Returns:
      bool [N, L], at least one genre a poster.
    """
    if point == THREE_TOGETHER:
      return self._name_three(scores)
    if point == 'exact_match' and self.combinations is not None:
      return self.combinations.likeliest(scores)
    return decide(scores, self.thresholds[point])

  def _name_three(self, scores):
    if self.combinations is None or self.combinations.are_too_many:
      three = metrics.top_k(scores)
    else:
      three = self.combinations.name_together(scores, k=metrics.TOP_K)
    return metrics.to_mask(three, num_genres=scores.shape[1])

  def to_dict(self) -> dict[str, Any]:
    """Plain values that JSON can hold."""
    return {
      'genres': list(self.genres),
      'slope': self.slope.tolist(),
      'intercept': self.intercept.tolist(),
      'thresholds': {
        point: values.tolist() for point, values in self.thresholds.items()
      },
      'combinations': (
        None if self.combinations is None else self.combinations.to_dict()
      ),
    }


def from_dict(
  stored: Mapping[str, Any], *, genres: Sequence[str]
) -> Calibration:
  """The inverse of `Calibration.to_dict`.

  Raises:
    InputError: it was fitted for other genres.
    ValueError: its combinations are none of them.
  """
  if tuple(stored['genres']) != tuple(genres):
    raise errors.InputError(
      'The calibration was fitted for other genres than those of the network:'
      f' {list(stored["genres"])}, against {list(genres)}.'
    )
  combinations = stored.get('combinations')  # Earlier versions have none.
  if combinations is not None:
    combinations = combinations_lib.from_dict(
      combinations, num_genres=len(genres)
    )
  return Calibration(
    genres=tuple(genres),
    slope=np.asarray(stored['slope']),
    intercept=np.asarray(stored['intercept']),
    thresholds={
      point: np.asarray(stored['thresholds'][point])
      for point in OPERATING_POINTS
    },
    combinations=combinations,
  )


def identity(genres: Sequence[str]) -> Calibration:
  """Plain sigmoids of each genre for itself, and thresholds of 0.5."""
  half = np.full(len(genres), 0.5)
  return Calibration(
    genres=tuple(genres),
    slope=np.ones(len(genres)),
    intercept=np.zeros(len(genres)),
    thresholds=dict.fromkeys(OPERATING_POINTS, half),
  )


def decide(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """Genres with a score of at least their threshold, or else the best one.

  Every film has a genre, so an empty answer would never be right.

  Args:
    scores: [N, L].
    thresholds: [L] or a number.

  Returns:
    bool [N, L].
  """
  decided = scores >= thresholds
  is_empty = ~decided.any(axis=1)
  decided[is_empty, scores[is_empty].argmax(axis=1)] = True
  return decided


def expected_calibration_error(
  scores: np.ndarray, labels: np.ndarray, *, num_bins: int = 15
) -> float:
  """Expected calibration error of all (poster, genre) pairs.

  Guo et al., 2017, equation 3: the mean distance of the share of positives from
  the mean score, over bins of equal width, weighted by their size.

  Args:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1.
    num_bins: of equal width.

  Returns:
    The error, in [0, 1].
  """
  scores = np.asarray(scores, np.float64).ravel()
  labels = np.asarray(labels, np.float64).ravel()
  bins = np.minimum((scores * num_bins).astype(int), num_bins - 1)
  total = np.zeros(num_bins)
  np.add.at(total, bins, scores - labels)
  return float(np.abs(total).sum() / len(scores))
