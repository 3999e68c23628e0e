"""Metrics of a split: pure functions of arrays.

They need the scores of all its examples, since average precision and ROC-AUC
are not means over batches. So they run on the host, in NumPy, for many
weightings of the examples at once, which is what a bootstrap asks for.

Definitions and the treatment of ties are those of scikit-learn, where it has
the metric. Genres without a positive have no average precision and genres
without both a positive and a negative have no ROC-AUC; means leave them out.
"""

from collections.abc import Callable, Sequence
import dataclasses

import numpy as np

TOP_K = 3


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
    precision = _divide(true, true + false)
    result[:, genre] = _divide(
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
    result[:, genre] = _divide(
      (widths * heights).sum(axis=1), true[:, -1] * false[:, -1], empty=np.nan
    )
  return result


def top_k(scores: np.ndarray, k: int = TOP_K) -> np.ndarray:
  """The k highest-scored genres of each example, the best first.

  Args:
    scores: [N, L].
    k: at most L are returned.

  Returns:
    int [N, min(k, L)]; of equal scores the genre that comes first wins.
  """
  return np.argsort(-scores, axis=1, kind='stable')[:, :k]


# A metric of a split: (scores [N, L], decided bool [N, L], labels [N, L],
# weights [R, N]) -> [R].
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _accuracy(scores, decided, labels, weights):
  """Share of (poster, genre) pairs decided right."""
  del scores
  return _weighted_mean((decided == (labels > 0)).mean(axis=1), weights)


def _exact_match(scores, decided, labels, weights):
  """Share of posters whose genres are all decided right."""
  del scores
  return _weighted_mean((decided == (labels > 0)).all(axis=1), weights)


def _mean_average_precision(scores, decided, labels, weights):
  """Mean of the genres' average precision."""
  del decided
  return _mean_of_defined(average_precision(Ranked.of(scores, labels), weights))


def _micro_average_precision(scores, decided, labels, weights):
  """Average precision of all (poster, genre) pairs in one ranking."""
  del decided
  ranked = Ranked.of(scores.reshape(-1, 1), labels.reshape(-1, 1))
  # A resample at a time: the ranking is as long as all genres together.
  return np.array(
    [
      average_precision(ranked, np.repeat(row, labels.shape[1])[None])[0, 0]
      for row in weights
    ]
  )


def _mean_roc_auc(scores, decided, labels, weights):
  """Mean of the genres' area under the ROC curve."""
  del decided
  return _mean_of_defined(roc_auc(Ranked.of(scores, labels), weights))


def _micro_f1(scores, decided, labels, weights):
  """F1 of all decisions together."""
  del scores
  counts = _confusion(decided, labels, weights)
  true, predicted, actual = (count.sum(axis=1) for count in counts)
  return _divide(2 * true, predicted + actual)


def _macro_f1(scores, decided, labels, weights):
  """Mean of the genres' F1; 0 where it is undefined."""
  del scores
  true, predicted, actual = _confusion(decided, labels, weights)
  return _divide(2 * true, predicted + actual).mean(axis=1)


def _precision_at_3(scores, decided, labels, weights):
  """Share of the three named genres that are right."""
  del decided
  return _weighted_mean(_hits(scores, labels).mean(axis=1), weights)


def _recall_at_3(scores, decided, labels, weights):
  """Share of a poster's genres that are among the three named."""
  del decided
  found = _hits(scores, labels).sum(axis=1)
  return _weighted_mean(_divide(found, labels.sum(axis=1)), weights)


def _hit_at_3(scores, decided, labels, weights):
  """Share of posters with at least one of the three named genres right."""
  del decided
  return _weighted_mean(_hits(scores, labels).any(axis=1), weights)


METRICS: dict[str, Metric] = {
  'accuracy': _accuracy,
  'exact_match': _exact_match,
  'mean_average_precision': _mean_average_precision,
  'micro_average_precision': _micro_average_precision,
  'mean_roc_auc': _mean_roc_auc,
  'micro_f1': _micro_f1,
  'macro_f1': _macro_f1,
  'precision_at_3': _precision_at_3,
  'recall_at_3': _recall_at_3,
  'hit_at_3': _hit_at_3,
}


def compute(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  decided: np.ndarray | None = None,
  weights: np.ndarray | None = None,
  names: Sequence[str] = tuple(METRICS),
) -> dict[str, np.ndarray]:
  """The metrics of a split.

  Args:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1.
    decided: bool [N, L], the genres given to each poster; None: those with a
      score of at least 0.5.
    weights: [R, N], R weightings of the examples; None: one of ones.
    names: of the metrics, keys of METRICS.

  Returns:
    [R] for each metric.

  Raises:
    ValueError: the shapes do not fit, there is no example, or a score is not
      finite.
  """
  scores, labels = np.asarray(scores, float), np.asarray(labels, float)
  if scores.shape != labels.shape or scores.ndim != 2 or not scores.size:
    raise ValueError(
      f'scores {scores.shape} and labels {labels.shape} do not fit; expected'
      ' [N, L] both, with at least one example'
    )
  if not np.isfinite(scores).all():
    raise ValueError(
      f'{(~np.isfinite(scores)).sum()} of {scores.size} scores are not finite'
    )
  if decided is None:
    decided = scores >= 0.5
  if weights is None:
    weights = np.ones((1, len(scores)))
  return {
    name: METRICS[name](scores, decided, labels, weights) for name in names
  }


def _hits(scores, labels):
  """Bool [N, k]: whether each of the named genres is right."""
  return np.take_along_axis(labels > 0, top_k(scores), axis=1)


def _confusion(decided, labels, weights):
  """[R, L] each: true positives, predicted positives, actual positives."""
  predicted = decided.astype(float)
  return weights @ (predicted * labels), weights @ predicted, weights @ labels


def _weighted_mean(values, weights):
  """[N] values to [R] means."""
  return (weights @ values.astype(float)) / weights.sum(axis=1)


def _mean_of_defined(values):
  """[R, L] to [R]: the mean over genres, leaving out NaN."""
  is_defined = ~np.isnan(values)
  total = np.where(is_defined, values, 0.0).sum(axis=1)
  return _divide(total, is_defined.sum(axis=1), empty=np.nan)


def _divide(numerator, denominator, *, empty=0.0):
  """Numerator / denominator, and `empty` where the denominator is 0."""
  is_empty = denominator == 0
  return np.where(
    is_empty, empty, numerator / np.where(is_empty, 1, denominator)
  )
