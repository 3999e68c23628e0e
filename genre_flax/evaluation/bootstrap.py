"""Confidence intervals of metrics, by the bootstrap over examples."""

from collections.abc import Iterator, Sequence

import numpy as np

from genre_flax.evaluation import metrics

# At a time, of all resamples together: 32 MB. Those of usual splits are fewer,
# and fit the processor's caches.
_MAX_WEIGHTS = 1 << 22


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
  values = given.compute(np.ones((1, len(scores))), names=names)
  point = {name: float(value[0]) for name, value in values.items()}
  samples: dict[str, list[float]] = {name: [] for name in names}
  for weights in resample_weights(len(scores), num_samples=num_samples):
    values = given.compute(weights, names=names)
    for name in names:
      samples[name].extend(values[name][~np.isnan(values[name])])
  tail = 100 * (1 - confidence) / 2
  found = {}
  for name, values in samples.items():
    low = high = np.nan
    if values:
      bias = np.mean(values) - point[name]
      low, high = np.percentile(values, [tail, 100 - tail]) - bias
    found[name] = (float(low), float(high))
  return found
