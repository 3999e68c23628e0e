"""Metrics of a split: pure functions of arrays.

They need the scores of all its examples, since average precision and ROC-AUC
are not means over batches. So they run on the host, in NumPy, for many
weightings of the examples at once, which is what a bootstrap asks for.

Definitions and the treatment of ties are those of scikit-learn, where it has
the metric. Genres without a positive have no average precision and genres
without both a positive and a negative have no ROC-AUC; means leave them out.
"""

from collections.abc import Callable, Sequence
import functools

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


def to_mask(indices: np.ndarray, *, num_genres: int) -> np.ndarray:
  """Bool [N, num_genres]: the genres of [N, k] indices."""
  found = np.zeros((len(indices), num_genres), bool)
  np.put_along_axis(found, indices, True, axis=1)
  return found


class Given:
  """What the metrics of a split are computed from; what they share, once.

  Attributes:
    scores: [N, L], probabilities.
    labels: bool [N, L].
    decided: bool [N, L], the genres given to each poster.
  """

  def __init__(
    self,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    decided: np.ndarray | None = None,
  ):
    """Checks what is given.

    Args:
      scores: [N, L], probabilities.
      labels: [N, L] of 0 and 1.
      decided: bool [N, L]; None: those with a score of at least 0.5, and where
        three are named those with the highest scores.

    Raises:
      ValueError: the shapes do not fit, there is no example, or a score is not
        finite.
    """
    scores, labels = np.asarray(scores, float), np.asarray(labels)
    if scores.shape != labels.shape or scores.ndim != 2 or not scores.size:
      raise ValueError(
        f'scores {scores.shape} and labels {labels.shape} do not fit; expected'
        ' [N, L] both, with at least one example'
      )
    if not np.isfinite(scores).all():
      raise ValueError(
        f'{(~np.isfinite(scores)).sum()} of {scores.size} scores are not finite'
      )
    self.scores = scores
    self.labels = labels > 0
    self.decided = scores >= 0.5 if decided is None else decided
    self._are_given = decided is not None

  @functools.cached_property
  def by_genre(self) -> ranking.Ranked:
    """The rankings of the examples for each genre."""
    return ranking.Ranked.by_genre(self.scores, self.labels)

  @functools.cached_property
  def of_all_pairs(self) -> ranking.Ranked:
    """The ranking of all (example, genre) pairs."""
    return ranking.Ranked.of_all_pairs(self.scores, self.labels)

  @functools.cached_property
  def named(self) -> np.ndarray:
    """Bool [N, L]: the genres that are named where three are.

    Raises:
      ValueError: others than three are decided on.
    """
    num_genres = self.scores.shape[1]
    if not self._are_given:
      return to_mask(top_k(self.scores), num_genres=num_genres)
    if (self.decided.sum(axis=1) != min(TOP_K, num_genres)).any():
      raise ValueError(f'not all examples are given {TOP_K} genres')
    return self.decided

  @functools.cached_property
  def hits(self) -> np.ndarray:
    """[N]: how many of the named genres are right."""
    return (self.named & self.labels).sum(axis=1)

  def compute(
    self, weights: np.ndarray, *, names: Sequence[str]
  ) -> dict[str, np.ndarray]:
    """Metrics for R weightings of the examples.

    Args:
      weights: [R, N].
      names: of the metrics, keys of METRICS.

    Returns:
      [R] for each metric.
    """
    return {name: METRICS[name](self, weights) for name in names}


# A metric of a split: (given, weights [R, N]) -> [R].
Metric = Callable[[Given, np.ndarray], np.ndarray]


def _accuracy(given, weights):
  """Share of (poster, genre) pairs decided right."""
  return _weighted_mean((given.decided == given.labels).mean(axis=1), weights)


def _exact_match(given, weights):
  """Share of posters whose genres are all decided right."""
  return _weighted_mean((given.decided == given.labels).all(axis=1), weights)


def _mean_average_precision(given, weights):
  """Mean of the genres' average precision."""
  return _mean_of_defined(ranking.average_precision(given.by_genre, weights))


def _micro_average_precision(given, weights):
  """Average precision of all (poster, genre) pairs in one ranking."""
  return ranking.average_precision(given.of_all_pairs, weights)[:, 0]


def _mean_roc_auc(given, weights):
  """Mean of the genres' area under the ROC curve."""
  return _mean_of_defined(ranking.roc_auc(given.by_genre, weights))


def _micro_f1(given, weights):
  """F1 of all decisions together."""
  counts = _confusion(given, weights)
  true, predicted, actual = (count.sum(axis=1) for count in counts)
  return ranking.divide(2 * true, predicted + actual)


def _macro_f1(given, weights):
  """Mean of the genres' F1; 0 where it is undefined."""
  true, predicted, actual = _confusion(given, weights)
  return ranking.divide(2 * true, predicted + actual).mean(axis=1)


def _precision_at_3(given, weights):
  """Share of the three named genres that are right."""
  return _weighted_mean(given.hits / given.named.sum(axis=1), weights)


def _recall_at_3(given, weights):
  """Share of a poster's genres that are among the three named."""
  recall = ranking.divide(given.hits, given.labels.sum(axis=1))
  return _weighted_mean(recall, weights)


def _hit_at_3(given, weights):
  """Share of posters with at least one of the three named genres right."""
  return _weighted_mean(given.hits > 0, weights)


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
    decided: bool [N, L], the genres given to each poster, three for the metrics
      of three; None: those with a score of at least 0.5, and where three are
      named those with the highest scores.
    weights: [R, N], R weightings of the examples; None: one of ones.
    names: of the metrics, keys of METRICS.

  Returns:
    [R] for each metric.

  Raises:
    ValueError: the shapes do not fit, there is no example, or a score is not
      finite.
  """
  given = Given(scores, labels, decided=decided)
  if weights is None:
    weights = np.ones((1, len(given.scores)))
  return given.compute(weights, names=names)


def _confusion(given, weights):
  """[R, L] each: true positives, predicted positives, actual positives."""
  counted = (given.decided & given.labels, given.decided, given.labels)
  return tuple(weights @ one.astype(float) for one in counted)


def _weighted_mean(values, weights):
  """[N] values to [R] means."""
  return (weights @ values.astype(float)) / weights.sum(axis=1)


def _mean_of_defined(values):
  """[R, L] to [R]: the mean over genres, leaving out NaN."""
  is_defined = ~np.isnan(values)
  total = np.where(is_defined, values, 0.0).sum(axis=1)
  return ranking.divide(total, is_defined.sum(axis=1), empty=np.nan)
