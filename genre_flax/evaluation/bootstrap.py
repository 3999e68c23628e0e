"""Confidence intervals of metrics, by the bootstrap over examples."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking

_Key = TypeVar('_Key', bound=Hashable)

# At a time, of all resamples together: 32 MB. Those of usual splits are fewer,
# and fit the processor's caches.
_MAX_WEIGHTS = 1 << 22


class Estimate(NamedTuple):
  """A number and its interval; NaN where it is not defined."""

  value: float
  low: float
  high: float


def resample_weights(
  num_examples: int, *, num_samples: int, seed: int = 0
) -> Iterator[np.ndarray]:
  """How often each example is in each resample of a bootstrap.

  Args:
    num_examples: of the split.
    num_samples: resamples.
    seed: of the resampling.

  Yields:
    [R, num_examples], at most 50 resamples at a time, and of a large split
    fewer. How many does not change them.
  """
  rng = np.random.default_rng(seed)
  shares = np.full(num_examples, 1 / num_examples)
  at_a_time = min(50, max(1, _MAX_WEIGHTS // num_examples))
  for start in range(0, num_samples, at_a_time):
    size = min(at_a_time, num_samples - start)
    yield rng.multinomial(num_examples, shares, size=size).astype(float)


def intervals(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  num_samples: int,
  decided: np.ndarray | None = None,
  names: Sequence[str] = tuple(metrics.METRICS),
  confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
  """Percentile bootstrap over examples (Efron and Tibshirani, 1993, ch. 13).

  The percentiles are shifted by the bootstrap's estimate of its bias (ibid.,
  ch. 10): a resample repeats examples, which raises the average precision of
  rare genres in most of them.

  Args:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1.
    num_samples: resamples; 0 gives no intervals.
    decided: as in `metrics.compute`.
    names: of the metrics, keys of `metrics.METRICS`.
    confidence: of the intervals.

  Returns:
    (low, high) for each metric; NaN where no resample has the metric.
  """
  given = metrics.Given(scores, labels, decided=decided)
  return {
    name: (low, high)
    for name, (_, low, high) in _estimate(
      lambda weights: given.compute(weights, names=names),
      len(scores),
      num_samples=num_samples,
      confidence=confidence,
    ).items()
  }


def differences(
  scores: np.ndarray,
  other_scores: np.ndarray,
  labels: np.ndarray,
  *,
  num_samples: int,
  decided: np.ndarray | None = None,
  other_decided: np.ndarray | None = None,
  names: Sequence[str] = tuple(metrics.METRICS),
  confidence: float = 0.95,
) -> dict[str, Estimate]:
  """How much better one predictor is than another, on the same examples.

  Both are computed on the same resamples (the paired bootstrap; Koehn, 2004,
  'Statistical Significance Tests for Machine Translation Evaluation'), so what
  makes an example hard for both does not widen the interval.

  Args:
    scores: [N, L], probabilities.
    other_scores: [N, L], those of the other.
    labels: [N, L] of 0 and 1.
    num_samples: resamples; 0 gives no intervals.
    decided: as in `metrics.compute`.
    other_decided: those of the other.
    names: of the metrics, keys of `metrics.METRICS`.
    confidence: of the intervals.

  Returns:
    The difference, scores less other_scores, of each metric.
  """
  one = metrics.Given(scores, labels, decided=decided)
  other = metrics.Given(other_scores, labels, decided=other_decided)

  def compute(weights):
    values = one.compute(weights, names=names)
    others = other.compute(weights, names=names)
    return {name: values[name] - others[name] for name in names}

  return _estimate(
    compute,
    len(scores),
    num_samples=num_samples,
    confidence=confidence,
    least=-1.0,
  )


def of_genres(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  num_samples: int,
  confidence: float = 0.95,
) -> dict[str, list[Estimate]]:
  """Average precision and ROC-AUC of each genre, with their intervals.

  Args:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1.
    num_samples: resamples; 0 gives no intervals.
    confidence: of the intervals.

  Returns:
    {'average_precision', 'roc_auc'}, of each genre in turn.
  """
  ranked = metrics.Given(scores, labels).by_genre
  found = {}
  for name, metric in (
    ('average_precision', ranking.average_precision),
    ('roc_auc', ranking.roc_auc),
  ):
    estimates = _estimate(
      lambda weights, metric=metric: dict(enumerate(metric(ranked, weights).T)),
      len(scores),
      num_samples=num_samples,
      confidence=confidence,
    )
    found[name] = list(estimates.values())
  return found


def _estimate(
  compute: Callable[[np.ndarray], Mapping[_Key, np.ndarray]],
  num_examples: int,
  *,
  num_samples: int,
  confidence: float,
  least: float = 0.0,
) -> dict[_Key, Estimate]:
  """What is computed of weightings [R, N], as [R] each, with intervals.

  The intervals are within `least` and 1, as what is computed is.
  """
  point = compute(np.ones((1, num_examples)))
  samples: dict[_Key, list[float]] = {key: [] for key in point}
  for weights in resample_weights(num_examples, num_samples=num_samples):
    for key, values in compute(weights).items():
      samples[key].extend(values[~np.isnan(values)])
  tail = 100 * (1 - confidence) / 2
  found = {}
  for key, values in samples.items():
    low = high = np.nan
    if values:
      bias = np.mean(values) - point[key][0]
      ends = np.percentile(values, [tail, 100 - tail]) - bias
      low, high = np.clip(ends, least, 1)
    found[key] = Estimate(float(point[key][0]), float(low), float(high))
  return found
