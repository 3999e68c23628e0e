"""Metrics of a split, as functions of arrays.

Average precision and ROC-AUC are not means over batches, so metrics are
computed on the host in NumPy, from the scores of all examples, and for many
weightings of the examples at once, such as the resamples of a bootstrap.

Definitions and the treatment of ties are those of scikit-learn, if it has the
metric. Means over genres omit genres without positives, which have no average
precision, and genres without positives or without negatives, which have no
ROC-AUC.

METRICS lists all metrics, in the order of logs, files, reports and comparisons.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
import dataclasses
import functools

import numpy as np

from genre_flax.evaluation import ranking

TOP_K = 3
# Suffix of metrics of the genres that are predicted at an operating point.
FITTED = '_fitted'
# Metrics of log lines, after config.best_metric.
_LOGGED = ('mean_average_precision', 'hit_at_3', 'micro_f1')


def top_k(scores: np.ndarray, k: int = TOP_K) -> np.ndarray:
  """The k genres with the highest of the scores [N, L], the best first.

  Returns:
    int [N, min(k, L)]; of ties the first genre.
  """
  return np.argsort(-scores, axis=1, kind='stable')[:, :k]


@dataclasses.dataclass
class Inputs:
  """Scores, labels and predicted genres, with intermediate results.

  Attributes:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1; converted to bool.
    predicted: bool [N, L]; by default genres with a score of at least 0.5.
    fitted: bool [N, L], the genres predicted at the operating point of each of
      some metrics.

  Raises:
    ValueError: the shapes differ, there are no examples, or a score is not
      finite.
  """

  scores: np.ndarray
  labels: np.ndarray
  predicted: np.ndarray | None = None
  fitted: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    self.scores = scores = np.asarray(self.scores, float)
    self.labels = np.asarray(self.labels) > 0
    if scores.shape != self.labels.shape or scores.ndim != 2 or not scores.size:
      raise ValueError(
        f'expected scores and labels [N, L] with at least one example, got'
        f' {scores.shape} and {self.labels.shape}'
      )
    if not np.isfinite(scores).all():
      raise ValueError(
        f'{(~np.isfinite(scores)).sum()} of {scores.size} scores are not finite'
      )
    if self.predicted is None:
      self.predicted = scores >= 0.5

  @functools.cached_property
  def by_genre(self) -> ranking.Ranked:
    """The rankings of the examples within each genre."""
    return ranking.Ranked.by_genre(self.scores, self.labels)

  @functools.cached_property
  def of_all_pairs(self) -> ranking.Ranked:
    """The ranking of all (example, genre) pairs."""
    return ranking.Ranked.of_all_pairs(self.scores, self.labels)

  @functools.cached_property
  def hits(self) -> np.ndarray:
    """[N]: the number of correct top-3 predictions."""
    top3 = top_k(self.scores)
    return np.take_along_axis(self.labels, top3, axis=1).sum(axis=1)

  @functools.cached_property
  def losses(self) -> np.ndarray:
    """[N]: the cross-entropy, summed over genres; scores of 0 are clipped."""
    probabilities = 1 - self.scores
    probabilities[self.labels] = self.scores[self.labels]
    np.maximum(probabilities, np.finfo(float).eps, out=probabilities)
    return -np.log(probabilities, out=probabilities).sum(axis=1)

  @property
  def names(self) -> tuple[str, ...]:
    """All metrics: keys of METRICS, and those of `fitted` with a suffix."""
    return *METRICS, *(f'{name}{FITTED}' for name in self.fitted)

  def compute(
    self, weights: np.ndarray, *, names: Sequence[str] | None = None
  ) -> dict[str, np.ndarray]:
    """Metrics for R weightings of the examples.

    Args:
      weights: [R, N].
      names: of the metrics; None for `self.names`.

    Returns:
      [R] per metric.
    """
    values = {}
    for name in self.names if names is None else names:
      base, inputs = name.removesuffix(FITTED), self
      if base != name:
        inputs = dataclasses.replace(self, predicted=self.fitted[base])
      values[name] = METRICS[base].function(inputs, weights)
    return values


@dataclasses.dataclass(frozen=True)
class Metric:
  """A metric of a split.

  Attributes:
    function: maps inputs and weights [R, N] to values [R] of at least 0. Its
      docstring describes the metric in reports.
    title: for log lines and tables.
    higher_is_better: whether the best value is the maximum.
    maximum: of the values.
  """

  function: Callable[[Inputs, np.ndarray], np.ndarray]
  title: str
  higher_is_better: bool = True
  maximum: float = 1.0

  @property
  def description(self) -> str:
    """One line."""
    return self.function.__doc__


def _accuracy(inputs, weights):
  """Share of (poster, genre) pairs that are predicted correctly."""
  correct = inputs.predicted == inputs.labels
  return _weighted_mean(correct.mean(axis=1), weights)


def _exact_match(inputs, weights):
  """Share of posters whose genres are all predicted correctly."""
  correct = inputs.predicted == inputs.labels
  return _weighted_mean(correct.all(axis=1), weights)


def _mean_average_precision(inputs, weights):
  """Mean of the average precision of the genres."""
  return _mean_of_defined(ranking.average_precision(inputs.by_genre, weights))


def _micro_average_precision(inputs, weights):
  """Average precision of all (poster, genre) pairs in one ranking."""
  return ranking.average_precision(inputs.of_all_pairs, weights)[:, 0]


def _mean_roc_auc(inputs, weights):
  """Mean of the area under the ROC curve of the genres."""
  return _mean_of_defined(ranking.roc_auc(inputs.by_genre, weights))


def _micro_f1(inputs, weights):
  """F1 of all (poster, genre) pairs."""
  counts = _confusion(inputs, weights)
  true, predicted, actual = (count.sum(axis=1) for count in counts)
  return ranking.divide(2 * true, predicted + actual)


def _macro_f1(inputs, weights):
  """Mean of the F1 of the genres; 0 where it is undefined."""
  true, predicted, actual = _confusion(inputs, weights)
  return ranking.divide(2 * true, predicted + actual).mean(axis=1)


def _precision_at_3(inputs, weights):
  """Share of the top-3 predictions that are correct."""
  count = min(TOP_K, inputs.labels.shape[1])
  return _weighted_mean(inputs.hits / count, weights)


def _recall_at_3(inputs, weights):
  """Share of the genres of a poster that are among the top-3 predictions."""
  recall = ranking.divide(inputs.hits, inputs.labels.sum(axis=1))
  return _weighted_mean(recall, weights)


def _hit_at_3(inputs, weights):
  """Share of posters with at least one correct top-3 prediction."""
  return _weighted_mean(inputs.hits > 0, weights)


def _cross_entropy(inputs, weights):
  """Cross-entropy, summed over genres, mean over posters."""
  return _weighted_mean(inputs.losses, weights)


METRICS: dict[str, Metric] = {
  'hit_at_3': Metric(_hit_at_3, 'hit at 3'),
  'recall_at_3': Metric(_recall_at_3, 'recall at 3'),
  'precision_at_3': Metric(_precision_at_3, 'precision at 3'),
  'mean_average_precision': Metric(_mean_average_precision, 'mean AP'),
  'micro_average_precision': Metric(_micro_average_precision, 'micro AP'),
  'mean_roc_auc': Metric(_mean_roc_auc, 'mean AUC'),
  'micro_f1': Metric(_micro_f1, 'micro F1'),
  'macro_f1': Metric(_macro_f1, 'macro F1'),
  'exact_match': Metric(_exact_match, 'exact match'),
  'accuracy': Metric(_accuracy, 'accuracy'),
  'cross_entropy': Metric(
    _cross_entropy, 'cross-entropy', higher_is_better=False, maximum=np.inf
  ),
}


def find(name: str) -> Metric:
  """The metric of a name of `Inputs.names`."""
  return METRICS[name.removesuffix(FITTED)]


def reported(fitted: Collection[str]) -> list[str]:
  """All metrics, at an operating point if `fitted` has one for the metric."""
  return [f'{name}{FITTED}' if name in fitted else name for name in METRICS]


def describe(values: Mapping[str, float], *, best_metric: str) -> str:
  """At most three metrics among some values, for a log line."""
  names = dict.fromkeys((best_metric, *_LOGGED))
  shown = [name for name in names if name in METRICS and name in values][:3]
  return '  '.join(
    f'{METRICS[name].title} {values[name]:.4f}' for name in shown
  )


def compute(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  predicted: np.ndarray | None = None,
  names: Sequence[str] | None = None,
) -> dict[str, float]:
  """The metrics of a split.

  Args:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1.
    predicted: bool [N, L], the predicted genres; None: genres with a score of
      at least 0.5. Metrics at 3 are of the three highest scores.
    names: of the metrics; None for all of METRICS.

  Raises:
    ValueError: as `Inputs` raises.
  """
  inputs = Inputs(scores, labels, predicted=predicted)
  values = inputs.compute(np.ones((1, len(inputs.scores))), names=names)
  return {name: float(value[0]) for name, value in values.items()}


def _confusion(inputs, weights):
  """[R, L] each: true positives, predicted positives, actual positives."""
  predicted, labels = inputs.predicted, inputs.labels
  counted = (predicted & labels, predicted, labels)
  return tuple(weights @ one.astype(float) for one in counted)


def _weighted_mean(values, weights):
  """[N] values to [R] weighted means."""
  return (weights @ values.astype(float)) / weights.sum(axis=1)


def _mean_of_defined(values):
  """[R, L] to [R]: the mean over genres without NaN."""
  is_defined = ~np.isnan(values)
  total = np.where(is_defined, values, 0.0).sum(axis=1)
  return ranking.divide(total, is_defined.sum(axis=1), empty=np.nan)
