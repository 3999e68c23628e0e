"""Metrics of a split: pure functions of arrays.

They need the scores of all its examples, since average precision and ROC-AUC
are not means over batches. So they run on the host, in NumPy, for many
weightings of the examples at once, which is what a bootstrap asks for.

Definitions and the treatment of ties are those of scikit-learn, where it has
the metric. Genres without a positive have no average precision and genres
without both a positive and a negative have no ROC-AUC; means leave them out.
"""

from collections.abc import Callable, Sequence

import numpy as np

from genre_flax.evaluation import ranking

TOP_K = 3


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
  return _mean_of_defined(
    ranking.average_precision(ranking.Ranked.of(scores, labels), weights)
  )


def _micro_average_precision(scores, decided, labels, weights):
  """Average precision of all (poster, genre) pairs in one ranking."""
  del decided
  ranked = ranking.Ranked.of(scores.reshape(-1, 1), labels.reshape(-1, 1))
  # A resample at a time: the ranking is as long as all genres together.
  return np.array(
    [
      ranking.average_precision(ranked, np.repeat(row, labels.shape[1])[None])[
        0, 0
      ]
      for row in weights
    ]
  )


def _mean_roc_auc(scores, decided, labels, weights):
  """Mean of the genres' area under the ROC curve."""
  del decided
  return _mean_of_defined(
    ranking.roc_auc(ranking.Ranked.of(scores, labels), weights)
  )


def _micro_f1(scores, decided, labels, weights):
  """F1 of all decisions together."""
  del scores
  counts = _confusion(decided, labels, weights)
  true, predicted, actual = (count.sum(axis=1) for count in counts)
  return ranking.divide(2 * true, predicted + actual)


def _macro_f1(scores, decided, labels, weights):
  """Mean of the genres' F1; 0 where it is undefined."""
  del scores
  true, predicted, actual = _confusion(decided, labels, weights)
  return ranking.divide(2 * true, predicted + actual).mean(axis=1)


def _precision_at_3(scores, decided, labels, weights):
  """Share of the three named genres that are right."""
  del decided
  return _weighted_mean(_hits(scores, labels).mean(axis=1), weights)


def _recall_at_3(scores, decided, labels, weights):
  """Share of a poster's genres that are among the three named."""
  del decided
  found = _hits(scores, labels).sum(axis=1)
  return _weighted_mean(ranking.divide(found, labels.sum(axis=1)), weights)


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
  return ranking.divide(total, is_defined.sum(axis=1), empty=np.nan)
