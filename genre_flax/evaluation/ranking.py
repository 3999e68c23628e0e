"""Metrics that rank the examples of a split.

For many weightings of the examples at once, which is what a bootstrap asks for:
the ranking is the same for all of them. It is gone through in blocks, so that
memory does not grow with the weightings times the examples.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np

# Weights that are looked at together, of all weightings: 8 MB.
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Ranked:
  """Rankings of examples by score, the highest first.

  Attributes:
    labels: bool [G, N], the labels in the order of the scores.
    examples: int [G, N], the example at each place.
    is_last_of_tie: bool [G, N], whether the next score is lower.
  """

  labels: np.ndarray
  examples: np.ndarray
  is_last_of_tie: np.ndarray

  @classmethod
  def by_genre(cls, scores: np.ndarray, labels: np.ndarray) -> 'Ranked':
    """Ranks [N, L] scores with their labels, genre by genre: G is L."""
    return cls._of_columns(scores, labels)

  @classmethod
  def of_all_pairs(cls, scores: np.ndarray, labels: np.ndarray) -> 'Ranked':
    """Ranks all (example, genre) pairs of [N, L] in one: G is 1."""
    ranked = cls._of_columns(scores.reshape(-1, 1), labels.reshape(-1, 1))
    # The place of a pair tells its example.
    np.floor_divide(ranked.examples, scores.shape[1], out=ranked.examples)
    return ranked

  @classmethod
  def _of_columns(cls, scores, labels):
    shape = scores.shape[::-1]
    small = np.int32 if len(scores) < 2**31 else np.int64
    ranked = cls(
      np.empty(shape, bool), np.empty(shape, small), np.ones(shape, bool)
    )
    for genre in range(shape[0]):
      column = scores[:, genre]
      order = np.argsort(-column, kind='stable')
      column = column[order]
      ranked.examples[genre] = order
      ranked.labels[genre] = labels[order, genre] > 0
      ranked.is_last_of_tie[genre, :-1] = column[1:] != column[:-1]
    return ranked


def _thresholds(
  ranked: Ranked, genre: int, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
  """Weighted true and false positives at each distinct score, in blocks.

  Args:
    ranked: of a split.
    genre: index.
    weights: [R, N], R weightings of the examples.

  Yields:
    Four arrays [R, T], for the next T scores from high to low: the positives at
    the score, true and false, and by how many they are more than at the score
    before.
  """
  labels, ends = ranked.labels[genre], ranked.is_last_of_tie[genre]
  size = max(1, _BLOCK // len(weights))
  # Before the block: of all examples, and at the last of its scores.
  sums = [np.zeros((len(weights), 1)) for _ in range(2)]
  last = [np.zeros((len(weights), 1)) for _ in range(2)]
  for start in range(0, len(labels), size):
    block = slice(start, start + size)
    block_weights = weights[:, ranked.examples[genre, block]]
    counts, steps = [], []
    for number, are_counted in enumerate((labels[block], ~labels[block])):
      running = np.cumsum(block_weights * are_counted, axis=1) + sums[number]
      sums[number] = running[:, -1:]
      at_ends = running[:, ends[block]]
      counts.append(at_ends)
      steps.append(np.diff(at_ends, axis=1, prepend=last[number]))
      last[number] = at_ends[:, -1:] if at_ends.size else last[number]
    yield (*counts, *steps)


def average_precision(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
  """Average precision of each genre: sum of (R_n - R_{n-1}) P_n.

  Args:
    ranked: of a split of N examples.
    weights: [R, N], R weightings of the examples.

  Returns:
    [R, G]; NaN where a genre has no positive.
  """
  num_genres = len(ranked.labels)
  result = np.full((len(weights), num_genres), np.nan)
  for genre in range(num_genres):
    total = positives = np.zeros(len(weights))
    for true, false, true_steps, _ in _thresholds(ranked, genre, weights):
      precision = divide(true, true + false)
      total = total + (true_steps * precision).sum(axis=1)
      positives = positives + true_steps.sum(axis=1)
    result[:, genre] = divide(total, positives, empty=np.nan)
  return result


def roc_auc(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
  """Area under the ROC curve of each genre, by the trapezoidal rule.

  Args:
    ranked: of a split of N examples.
    weights: [R, N], R weightings of the examples.

  Returns:
    [R, G]; NaN where a genre lacks positives or negatives.
  """
  num_genres = len(ranked.labels)
  result = np.full((len(weights), num_genres), np.nan)
  for genre in range(num_genres):
    area = positives = negatives = np.zeros(len(weights))
    for true, _, true_steps, false_steps in _thresholds(ranked, genre, weights):
      heights = true - true_steps / 2
      area = area + (false_steps * heights).sum(axis=1)
      positives = positives + true_steps.sum(axis=1)
      negatives = negatives + false_steps.sum(axis=1)
    result[:, genre] = divide(area, positives * negatives, empty=np.nan)
  return result


def divide(
  numerator: np.ndarray, denominator: np.ndarray, *, empty: float = 0.0
) -> np.ndarray:
  """Numerator / denominator, and `empty` where the denominator is 0."""
  is_empty = denominator == 0
  return np.where(
    is_empty, empty, numerator / np.where(is_empty, 1, denominator)
  )
