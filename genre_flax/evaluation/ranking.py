"""Ranking metrics: average precision and the area under the ROC curve.

They are computed for many weightings of the examples at once, such as the
resamples of a bootstrap, which share the ranking. Examples are processed in
blocks, to bound the memory.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np

# Weights per block, of all weightings: 8 MB.
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Ranked:
  """Rankings of examples by descending score.

  Attributes:
    labels: bool [G, N], the labels in the order of the ranking.
    examples: int [G, N], the index of the example at each rank.
    is_last_of_tie: bool [G, N], whether the next score is lower.
  """

  labels: np.ndarray
  examples: np.ndarray
  is_last_of_tie: np.ndarray

  @classmethod
  def by_genre(cls, scores: np.ndarray, labels: np.ndarray) -> 'Ranked':
    """Ranks [N, L] scores within each genre: G is L."""
    shape = scores.shape[::-1]
    dtype = np.int32 if len(scores) < 2**31 else np.int64
    ranked = cls(
      np.empty(shape, bool), np.empty(shape, dtype), np.ones(shape, bool)
    )
    for genre in range(shape[0]):
      column = scores[:, genre]
      order = np.argsort(-column, kind='stable')
      column = column[order]
      ranked.examples[genre] = order
      ranked.labels[genre] = labels[order, genre] > 0
      ranked.is_last_of_tie[genre, :-1] = column[1:] != column[:-1]
    return ranked

  @classmethod
  def of_all_pairs(cls, scores: np.ndarray, labels: np.ndarray) -> 'Ranked':
    """Ranks all (example, genre) pairs of [N, L] scores: G is 1."""
    ranked = cls.by_genre(scores.reshape(-1, 1), labels.reshape(-1, 1))
    np.floor_divide(ranked.examples, scores.shape[1], out=ranked.examples)
    return ranked


def _thresholds(
  ranked: Ranked, genre: int, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
  """True and false positives at each distinct score, in blocks.

  `weights` are [R, N], R weightings of the examples.

  Yields:
    Four arrays [R, T] for the next T distinct scores, descending: the true and
    the false positives, and their increments from the previous score.
  """
  labels, ends = ranked.labels[genre], ranked.is_last_of_tie[genre]
  size = max(1, _BLOCK // len(weights))
  # Up to the block: sums over all examples, and up to the last full tie.
  sums = [np.zeros((len(weights), 1)) for _ in range(2)]
  last = [np.zeros((len(weights), 1)) for _ in range(2)]
  for start in range(0, len(labels), size):
    block = slice(start, start + size)
    block_weights = weights[:, ranked.examples[genre, block]]
    counts, steps = [], []
    for number, counted in enumerate((labels[block], ~labels[block])):
      running = np.cumsum(block_weights * counted, axis=1) + sums[number]
      sums[number] = running[:, -1:]
      at_ends = running[:, ends[block]]
      counts.append(at_ends)
      steps.append(np.diff(at_ends, axis=1, prepend=last[number]))
      last[number] = at_ends[:, -1:] if at_ends.size else last[number]
    yield (*counts, *steps)


def average_precision(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
  """Average precision of each genre: sum of (R_n - R_{n-1}) P_n.

  `weights` are [R, N], R weightings of the examples.

  Returns:
    [R, G]; NaN for a genre without positives.
  """
  area, positives, _ = _integrate(
    ranked,
    weights,
    lambda true, false, true_steps, _: true_steps * divide(true, true + false),
  )
  return divide(area, positives, empty=np.nan)


def roc_auc(ranked: Ranked, weights: np.ndarray) -> np.ndarray:
  """Area under the ROC curve of each genre, by the trapezoidal rule.

  `weights` are [R, N], R weightings of the examples.

  Returns:
    [R, G]; NaN for a genre without positives or without negatives.
  """
  area, positives, negatives = _integrate(
    ranked,
    weights,
    lambda true, _, true_steps, false_steps: (
      false_steps * (true - true_steps / 2)
    ),
  )
  return divide(area, positives * negatives, empty=np.nan)


def _integrate(ranked, weights, area_fn):
  """[R, G] each: sums of `area_fn` of `_thresholds`, positives, negatives."""
  sums = np.zeros((3, len(weights), len(ranked.labels)))
  for genre in range(len(ranked.labels)):
    for block in _thresholds(ranked, genre, weights):
      _, _, true_steps, false_steps = block
      terms = (area_fn(*block), true_steps, false_steps)
      sums[:, :, genre] += [term.sum(axis=1) for term in terms]
  return sums


def divide(
  numerator: np.ndarray, denominator: np.ndarray, *, empty: float = 0.0
) -> np.ndarray:
  """Numerator / denominator, or `empty` where the denominator is 0."""
  is_empty = denominator == 0
  return np.where(
    is_empty, empty, numerator / np.where(is_empty, 1, denominator)
  )
