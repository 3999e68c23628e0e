"""Calibration: from logits to probabilities, and to predicted genres.

Platt scaling of each genre, the prior of `label_sets`, and an operating point
per metric of predicted genres: one threshold for micro-F1, a threshold per
genre for macro-F1, and the most probable label set for exact match.
`calibration_fit` fits them to the validation split; checkpoints store them.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from genre_flax.evaluation import label_sets as label_sets_lib
from genre_flax.runtime import errors

# By the metric that they maximize.
OPERATING_POINTS = ('micro_f1', 'macro_f1', 'exact_match')


@dataclasses.dataclass(frozen=True)
class Calibration:
  """Maps the logits of a network to scores and predicted genres.

  Attributes:
    genres: the label names.
    slope: [L], of Platt scaling.
    intercept: [L], of Platt scaling.
    thresholds: [L] for each of OPERATING_POINTS.
    label_sets: the prior of the label sets; None if genres are scored
      independently.
  """

  genres: tuple[str, ...]
  slope: np.ndarray
  intercept: np.ndarray
  thresholds: Mapping[str, np.ndarray]
  label_sets: label_sets_lib.LabelSets | None = None

  def to_logits(self, logits: Any, xp: Any = np) -> Any:
    """The log-odds [N, L] of the scores.

    Args:
      logits: [N, L], of the network.
      xp: numpy, or jax.numpy for arrays of JAX.
    """
    scaled = self.slope.astype(logits.dtype) * logits
    scaled = scaled + self.intercept.astype(logits.dtype)
    if self.label_sets is None:
      return scaled
    return self.label_sets.to_logits(scaled, xp)

  def to_scores(self, logits: np.ndarray) -> np.ndarray:
    """Probabilities [N, L], float64, of logits [N, L]."""
    logits = self.to_logits(np.asarray(logits, np.float64))
    # The sigmoid; SciPy takes long to import.
    return np.exp(-np.logaddexp(0, -logits))

  def predict_genres(self, scores: np.ndarray, point: str) -> np.ndarray:
    """The predicted genres at an operating point.

    Args:
      scores: [N, L], of `to_scores`.
      point: one of OPERATING_POINTS.

    Returns:
      bool [N, L], at least one genre per poster.
    """
    if point == 'exact_match' and self.label_sets is not None:
      return self.label_sets.most_probable(scores)
    return apply_thresholds(scores, self.thresholds[point])

  def to_dict(self) -> dict[str, Any]:
    """The values as JSON types."""
    return {
      'genres': list(self.genres),
      'slope': self.slope.tolist(),
      'intercept': self.intercept.tolist(),
      'thresholds': {
        point: values.tolist() for point, values in self.thresholds.items()
      },
      'label_sets': (
        None if self.label_sets is None else self.label_sets.to_dict()
      ),
    }


def from_dict(
  stored: Mapping[str, Any], *, genres: Sequence[str]
) -> Calibration:
  """The inverse of `Calibration.to_dict`.

  Raises:
    InputError: it was fitted for other genres.
    ValueError: its label sets are invalid.
  """
  if tuple(stored['genres']) != tuple(genres):
    raise errors.InputError(
      f'The calibration was fitted for the genres {list(stored["genres"])},'
      f' but the genres of the network are {list(genres)}.'
    )
  label_sets = stored['label_sets']
  if label_sets is not None:
    label_sets = label_sets_lib.from_dict(label_sets, num_genres=len(genres))
  return Calibration(
    genres=tuple(genres),
    slope=np.asarray(stored['slope']),
    intercept=np.asarray(stored['intercept']),
    thresholds={
      point: np.asarray(stored['thresholds'][point])
      for point in OPERATING_POINTS
    },
    label_sets=label_sets,
  )


def identity(genres: Sequence[str]) -> Calibration:
  """Scores are sigmoids of the logits, and all thresholds 0.5."""
  half = np.full(len(genres), 0.5)
  return Calibration(
    genres=tuple(genres),
    slope=np.ones(len(genres)),
    intercept=np.zeros(len(genres)),
    thresholds=dict.fromkeys(OPERATING_POINTS, half),
  )


def apply_thresholds(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """Genres with a score of at least their threshold, or else the best one.

  Every film has a genre, so an empty prediction is never correct.

  Args:
    scores: [N, L].
    thresholds: [L] or a number.

  Returns:
    bool [N, L].
  """
  predicted = scores >= thresholds
  is_empty = ~predicted.any(axis=1)
  predicted[is_empty, scores[is_empty].argmax(axis=1)] = True
  return predicted


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
