"""The comparison of two runs on the same posters."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.evaluation import metrics
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports.html import posters
from genre_flax.runtime import errors

_NUM_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The difference of a run to the first run.

  Attributes:
    differences: the metric of the run minus that of the first, per metric.
    improved: some posters with more correct top-3 predictions.
    degraded: some posters with fewer.
    num_improved: of all posters.
    num_degraded: of all posters.
  """

  differences: Mapping[str, bootstrap.Estimate]
  improved: Sequence[posters.Choice]
  degraded: Sequence[posters.Choice]
  num_improved: int
  num_degraded: int


def check_comparable(splits: Sequence[scored_lib.ScoredSplit]) -> None:
  """Checks that splits have the same genres, posters and labels.

  Raises:
    InputError: they differ.
  """
  first = splits[0]
  for other in splits[1:]:
    difference = None
    for what, ours, theirs in (
      ('genres', first.genres, other.genres),
      ('posters', first.ids, other.ids),
    ):
      if ours != theirs:
        difference = f'{what} differ ({len(ours)} and {len(theirs)})'
        for one in sorted(set(ours) ^ set(theirs))[:1]:
          difference += f', for example in {one!r}'
        break
    else:
      if not np.array_equal(first.labels, other.labels):
        difference = 'labels of the same posters differ'
    if difference:
      raise errors.InputError(
        f'The runs cannot be compared on the split {first.name}: their'
        f' {difference}. Set --data_dir to a dataset with the genres of all'
        ' runs, or write one report per run.'
      )


def compare(
  first: scored_lib.ScoredSplit,
  other: scored_lib.ScoredSplit,
  *,
  bootstrap_samples: int,
) -> Comparison:
  """Compares a run with the first run.

  Args:
    first: the split, scored by the first run.
    other: the split, scored by the other run.
    bootstrap_samples: number of resamples; 0 for no intervals.

  Returns:
    The comparison.
  """
  differences = bootstrap.differences(
    other.scores, first.scores, first.labels, num_samples=bootstrap_samples
  )
  for point in calibration_lib.OPERATING_POINTS:
    predicted, first_predicted = (
      split.predictor.calibration.predict_genres(split.scores, point)
      for split in (other, first)
    )
    fitted = bootstrap.differences(
      other.scores,
      first.scores,
      first.labels,
      predicted=predicted,
      other_predicted=first_predicted,
      names=(point,),
      num_samples=bootstrap_samples,
    )
    differences[f'{point}_fitted'] = fitted[point]
  hits, first_hits = (
    metrics.Inputs(split.scores, split.labels).hits for split in (other, first)
  )
  changes, has_genre = other.scores - first.scores, first.labels > 0

  def choose(sign):
    indices = sorted(
      np.flatnonzero(sign * hits > sign * first_hits),
      key=lambda i: -sign * (changes[i] * has_genre[i]).sum(),
    )
    genres = np.where(has_genre, sign * changes, -np.inf).argmax(axis=1)
    return len(indices), [
      _describe(first, other, i, genres[i]) for i in indices[:_NUM_SHOWN]
    ]

  num_improved, improved = choose(1)
  num_degraded, degraded = choose(-1)
  return Comparison(differences, improved, degraded, num_improved, num_degraded)


def _describe(first, other, index, genre) -> posters.Choice:
  note = (
    f'{first.genres[genre]} {first.scores[index, genre]:.2f} →'
    f' {other.scores[index, genre]:.2f}'
  )
  return posters.Choice(int(index), int(genre), note)
