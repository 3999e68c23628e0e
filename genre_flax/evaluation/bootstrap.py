"""Bootstrap 95 % confidence intervals of metrics, over examples."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking

_Key = TypeVar('_Key', bound=Hashable)

# Weights per block of resamples: 32 MB. Those of usual splits are fewer and fit
# the caches of the processor.
_MAX_WEIGHTS = 1 << 22
# Per cent below and above an interval.
_TAIL = 100 * (1 - 0.95) / 2


class Estimate(NamedTuple):
  """A value and its interval; NaN if undefined."""

  value: float
  low: float
  high: float


def resample_weights(
  num_examples: int, *, num_samples: int, seed: int = 0
) -> Iterator[np.ndarray]:
  """The number of times that each example is in each resample.

  Args:
    num_examples: of the split.
    num_samples: number of resamples.
    seed: of the random numbers.

  Yields:
    [R, num_examples], at most 50 resamples per block, and fewer of a large
    split. The resamples do not depend on the size of the blocks.
  """
  rng = np.random.default_rng(seed)
  shares = np.full(num_examples, 1 / num_examples)
  block = min(50, max(1, _MAX_WEIGHTS // num_examples))
  for start in range(0, num_samples, block):
    size = min(block, num_samples - start)
    yield rng.multinomial(num_examples, shares, size=size).astype(float)


def intervals(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  num_samples: int,
  predicted: np.ndarray | None = None,
  names: Sequence[str] = tuple(metrics.METRICS),
) -> dict[str, tuple[float, float]]:
  """Percentile bootstrap over examples (Efron and Tibshirani, 1993, ch. 13).

  The percentiles are corrected for the estimated bias (ibid., ch. 10): repeated
  examples mostly increase the average precision of rare genres.

  Args:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1.
    num_samples: number of resamples; 0 for no intervals.
    predicted: as in `metrics.compute`.
    names: of the metrics, keys of `metrics.METRICS`.

  Returns:
    (low, high) per metric; NaN if it is undefined in all resamples.
  """
  inputs = metrics.Inputs(scores, labels, predicted=predicted)
  estimates = _estimate(
    lambda weights: inputs.compute(weights, names=names),
    len(scores),
    num_samples=num_samples,
  )
  return {name: (low, high) for name, (_, low, high) in estimates.items()}


def differences(
  scores: np.ndarray,
  other_scores: np.ndarray,
  labels: np.ndarray,
  *,
  num_samples: int,
  predicted: np.ndarray | None = None,
  other_predicted: np.ndarray | None = None,
  names: Sequence[str] = tuple(metrics.METRICS),
) -> dict[str, Estimate]:
  """Differences of the metrics of two predictors on the same examples.

  Both are computed on the same resamples (the paired bootstrap; Koehn, 2004,
  'Statistical Significance Tests for Machine Translation Evaluation'), so
  examples that are difficult for both do not widen the interval.

  Args:
    scores: [N, L], probabilities.
    other_scores: [N, L], of the other predictor.
    labels: [N, L] of 0 and 1.
    num_samples: number of resamples; 0 for no intervals.
    predicted: as in `metrics.compute`.
    other_predicted: of the other predictor.
    names: of the metrics, keys of `metrics.METRICS`.

  Returns:
    The metric of `scores` minus that of `other_scores`, per metric.
  """
  one = metrics.Inputs(scores, labels, predicted=predicted)
  other = metrics.Inputs(other_scores, labels, predicted=other_predicted)

  def compute(weights):
    values = one.compute(weights, names=names)
    others = other.compute(weights, names=names)
    return {name: values[name] - others[name] for name in names}

  return _estimate(
    compute,
    len(scores),
    num_samples=num_samples,
    minimum=-1.0,
  )


def per_genre(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  num_samples: int,
) -> dict[str, list[Estimate]]:
  """Average precision and ROC-AUC of each genre, with intervals.

  Args:
    scores: [N, L], probabilities.
    labels: [N, L] of 0 and 1.
    num_samples: number of resamples; 0 for no intervals.

  Returns:
    {'average_precision', 'roc_auc'}: an estimate per genre.
  """
  ranked = metrics.Inputs(scores, labels).by_genre

  def estimate(metric):
    estimates = _estimate(
      lambda weights: dict(enumerate(metric(ranked, weights).T)),
      len(scores),
      num_samples=num_samples,
    )
    return list(estimates.values())

  return {
    'average_precision': estimate(ranking.average_precision),
    'roc_auc': estimate(ranking.roc_auc),
  }


def _estimate(
  compute: Callable[[np.ndarray], Mapping[_Key, np.ndarray]],
  num_examples: int,
  *,
  num_samples: int,
  minimum: float = 0.0,
) -> dict[_Key, Estimate]:
  """Estimates of a function from weightings [R, N] to values [R].

  Values are in [minimum, 1], so the intervals are clipped to it.
  """
  point = compute(np.ones((1, num_examples)))
  samples: dict[_Key, list[float]] = {key: [] for key in point}
  for weights in resample_weights(num_examples, num_samples=num_samples):
    for key, values in compute(weights).items():
      samples[key].extend(values[~np.isnan(values)])
  result = {}
  for key, values in samples.items():
    low = high = np.nan
    if values:
      bias = np.mean(values) - point[key][0]
      ends = np.percentile(values, [_TAIL, 100 - _TAIL]) - bias
      low, high = np.clip(ends, minimum, 1)
    result[key] = Estimate(float(point[key][0]), float(low), float(high))
  return result
