"""Metrics that rank the examples of a split, genre by genre.

For many weightings of the examples at once, which is what a bootstrap asks for:
the ranking is the same for all of them.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Ranked:
  """Scores of a split in descending order, for metrics that rank.

  Attributes:
    labels: float64 [L, N], the labels in the order of the scores.
    order: int [L, N], the example at each place.
    is_last_of_tie: bool [L, N], whether the next score is lower.
  """

  labels: np.ndarray
  order: np.ndarray
  is_last_of_tie: np.ndarray

  @classmethod
  def of(cls, scores: np.ndarray, labels: np.ndarray) -> 'Ranked':
    """Ranks [N, L] scores with their labels, genre by genre."""
    order = np.argsort(-scores.T, axis=1, kind='stable')
    sorted_scores = np.take_along_axis(scores.T, order, axis=1)
    is_last = np.ones(order.shape, bool)
    is_last[:, :-1] = sorted_scores[:, 1:] != sorted_scores[:, :-1]
    ranked_labels = np.take_along_axis(labels.T.astype(float), order, axis=1)
    return cls(ranked_labels, order, is_last)


def _cumulative(
  ranked: Ranked, genre: int, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Weighted true and false positives at each distinct threshold.

  Args:
    ranked: of a split.
    genre: index.
    weights: [R, N], R weightings of the examples.

  Returns:
    Two arrays [R, T], for the T distinct scores from high to low.
  """
  sorted_weights = weights[:, ranked.order[genre]]
  labels, ends = ranked.labels[genre], ranked.is_last_of_tie[genre]
  true = np.cumsum(sorted_weights * labels, axis=1)[:, ends]
  false = np.cumsum(sorted_weights * (1 - labels), axis=1)[:, ends]
  return true, false


def average_precision(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
  """Average precision of each genre: sum of (R_n - R_{n-1}) P_n.

  Args:
    ranked: of a split of N examples.
    weights: [R, N], R weightings of the examples.

  Returns:
    [R, L]; NaN where a genre has no positive.
  """
  num_genres = len(ranked.labels)
  result = np.full((len(weights), num_genres), np.nan)
  for genre in range(num_genres):
    true, false = _cumulative(ranked, genre, weights)
    positives = true[:, -1:]
    steps = np.diff(true, axis=1, prepend=0.0)
    precision = divide(true, true + false)
    result[:, genre] = divide(
      (steps * precision).sum(axis=1), positives[:, 0], empty=np.nan
    )
  return result


def roc_auc(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
  """Area under the ROC curve of each genre, by the trapezoidal rule.

  Args:
    ranked: of a split of N examples.
    weights: [R, N], R weightings of the examples.

  Returns:
    [R, L]; NaN where a genre lacks positives or negatives.
  """
  num_genres = len(ranked.labels)
  result = np.full((len(weights), num_genres), np.nan)
  for genre in range(num_genres):
    true, false = _cumulative(ranked, genre, weights)
    widths = np.diff(false, axis=1, prepend=0.0)
    heights = true - np.diff(true, axis=1, prepend=0.0) / 2
    result[:, genre] = divide(
      (widths * heights).sum(axis=1), true[:, -1] * false[:, -1], empty=np.nan
    )
  return result


def divide(
  numerator: np.ndarray, denominator: np.ndarray, *, empty: float = 0.0
) -> np.ndarray:
  """Numerator / denominator, and `empty` where the denominator is 0."""
  is_empty = denominator == 0
  return np.where(
    is_empty, empty, numerator / np.where(is_empty, 1, denominator)
  )
