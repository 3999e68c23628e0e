"""Bootstrap 95 % confidence intervals of metrics, over examples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking

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


def samples(
  inputs: metrics.Inputs,
  *,
  num_samples: int,
  names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
  """Metrics of a split and of its resamples.

  Splits of the same size have the same resamples, so that the values of several
  predictors are paired.

  Returns:
    [1 + num_samples] per metric; the first value is that of the split.
  """
  return _sample(
    lambda weights: inputs.compute(weights, names=names),
    len(inputs.scores),
    num_samples=num_samples,
  )


def intervals(
  inputs: metrics.Inputs,
  *,
  num_samples: int,
  names: Sequence[str] | None = None,
) -> dict[str, Estimate]:
  """Percentile bootstrap over examples (Efron and Tibshirani, 1993, ch. 13).

  The percentiles are corrected for the estimated bias (ibid., ch. 10): repeated
  examples mostly increase the average precision of rare genres. Without
  resamples there are no intervals.
  """
  values = samples(inputs, num_samples=num_samples, names=names)
  return {
    name: _to_estimate(each, 0.0, metrics.find(name).maximum)
    for name, each in values.items()
  }


def differences(
  runs: Sequence[Mapping[str, np.ndarray]],
  other_runs: Sequence[Mapping[str, np.ndarray]],
) -> dict[str, Estimate]:
  """Differences of the mean metrics of two groups of runs on the same examples.

  All runs are computed on the same resamples (the paired bootstrap; Koehn,
  2004, 'Statistical Significance Tests for Machine Translation Evaluation'), so
  examples that are difficult for all do not widen the interval. The runs of
  each group, such as seeds, are resampled as well, with weights that keep the
  variance of their mean unbiased (Rao and Wu, 1988).

  Returns:
    The mean metric of `runs`, of `samples` each, minus that of `other_runs`.
  """
  rng = np.random.default_rng(0)
  result = {}
  num_values = len(next(iter(runs[0].values())))
  groups = [
    (group, _run_weights(len(group), num_values - 1, rng))
    for group in (runs, other_runs)
  ]
  for name in runs[0]:
    mean, other_mean = (
      (weights * np.stack([run[name] for run in group], axis=1)).sum(axis=1)
      for group, weights in groups
    )
    maximum = metrics.find(name).maximum
    result[name] = _to_estimate(mean - other_mean, -maximum, maximum)
  return result


def _run_weights(num_runs, num_samples, rng):
  """[1 + num_samples, num_runs]: equal weights, and weights of resamples."""
  equal = np.full(num_runs, 1 / num_runs)
  counts = rng.multinomial(num_runs, equal, size=num_samples)
  scale = np.sqrt(num_runs / max(1, num_runs - 1))
  return np.vstack([equal, equal + scale * (counts / num_runs - equal)])


def per_genre(
  scores: np.ndarray,
  labels: np.ndarray,
  *,
  num_samples: int,
) -> dict[str, list[Estimate]]:
  """Average precision and ROC-AUC by genre, of scores and labels [N, L].

  Returns:
    {'average_precision', 'roc_auc'}: an estimate per genre.
  """
  ranked = metrics.Inputs(scores, labels).by_genre
  values = _sample(
    lambda weights: {
      'average_precision': ranking.average_precision(ranked, weights),
      'roc_auc': ranking.roc_auc(ranked, weights),
    },
    len(scores),
    num_samples=num_samples,
  )
  return {
    name: [_to_estimate(column, 0.0, 1.0) for column in each.T]
    for name, each in values.items()
  }


def _sample(
  compute: Callable[[np.ndarray], Mapping[str, np.ndarray]],
  num_examples: int,
  *,
  num_samples: int,
) -> dict[str, np.ndarray]:
  """The values [R, ...] of weightings [R, N]: of all examples, of resamples."""
  blocks = [compute(np.ones((1, num_examples)))]
  resamples = resample_weights(num_examples, num_samples=num_samples)
  blocks.extend(map(compute, resamples))
  return {
    name: np.concatenate([block[name] for block in blocks])
    for name in blocks[0]
  }


def _to_estimate(values, minimum, maximum) -> Estimate:
  """The first value, with the interval of the others, clipped to a range."""
  point, resampled = values[0], values[1:]
  resampled = resampled[~np.isnan(resampled)]
  low = high = np.nan
  if resampled.size:
    bias = resampled.mean() - point
    ends = np.percentile(resampled, [_TAIL, 100 - _TAIL]) - bias
    low, high = np.clip(ends, minimum, maximum)
  return Estimate(float(point), float(low), float(high))
