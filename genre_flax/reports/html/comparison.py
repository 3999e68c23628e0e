"""The comparison of two runs on the same posters."""

import numpy as np

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import metrics
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports import split_metrics
from genre_flax.reports.html import posters


def differences(
  first: scored_lib.ScoredSplit,
  other: scored_lib.ScoredSplit,
  *,
  bootstrap_samples: int,
) -> dict[str, bootstrap.Estimate]:
  """The metrics of a run minus those of the first run."""
  samples = [
    [
      bootstrap.samples(
        split_metrics.metric_inputs(split), num_samples=bootstrap_samples
      )
    ]
    for split in (other, first)
  ]
  return bootstrap.differences(*samples)


def changed_posters(
  first: scored_lib.ScoredSplit, other: scored_lib.ScoredSplit
) -> dict[str, list[posters.Choice]]:
  """The posters whose number of correct top-3 predictions changed.

  Returns:
    'improved' and 'degraded' posters, in descending order of the change of the
    scores of their genres, each with the genre whose score changed most.
  """
  first_hits, hits = (
    metrics.Inputs(split.scores, split.labels).hits for split in (first, other)
  )
  changes, has_genre = other.scores - first.scores, first.labels > 0
  result = {}
  for name, sign in (('improved', 1), ('degraded', -1)):
    indices = np.flatnonzero(sign * hits > sign * first_hits)
    totals = (sign * changes * has_genre).sum(axis=1)
    genres = np.where(has_genre, sign * changes, -np.inf).argmax(axis=1)
    result[name] = [
      posters.Choice(
        int(i),
        int(genres[i]),
        f'{first.genres[genres[i]]} {first.scores[i, genres[i]]:.2f} →'
        f' {other.scores[i, genres[i]]:.2f}',
      )
      for i in sorted(indices, key=lambda i: -totals[i])
    ]
  return result
