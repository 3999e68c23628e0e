"""Runs beside each other, on the same posters."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.evaluation import metrics
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports.html import posters
from genre_flax.runtime import errors

_NUM_CHANGED = 6


@dataclasses.dataclass(frozen=True)
class Comparison:
  """A run against the first one.

  Attributes:
    differences: by metric, how much higher it is than the first one's.
    gained: posters that got more of their genres named among the three.
    lost: posters that got fewer.
    num_gained: of all posters.
    num_lost: of all posters.
  """

  differences: Mapping[str, bootstrap.Estimate]
  gained: Sequence[posters.Choice]
  lost: Sequence[posters.Choice]
  num_gained: int
  num_lost: int


def check_comparable(splits: Sequence[scored_lib.ScoredSplit]) -> None:
  """Refuses splits of other posters or genres.

  Raises:
    InputError: they are not the same.
  """
  first = splits[0]
  for other in splits[1:]:
    for what, ours, theirs in (
      ('genres', first.genres, other.genres),
      ('posters', first.ids, other.ids),
    ):
      if ours != theirs:
        only = sorted(set(ours) ^ set(theirs))
        raise errors.InputError(
          f'The runs cannot be compared: their {what} of the split'
          f' {first.name} are not the same ({len(ours)} and {len(theirs)};'
          f' {len(only)} are of one alone'
          + (f', such as {only[0]!r}' if only else '')
          + '). Give --data_dir with a data set that all of them can be'
          ' evaluated on, or make a report of each.'
        )
    if not np.array_equal(first.labels, other.labels):
      raise errors.InputError(
        f'The runs cannot be compared: posters of the split {first.name} have'
        ' other genres in the data set of one than in that of the other. Give'
        ' --data_dir with a data set that all of them can be evaluated on.'
      )


def compare(
  first: scored_lib.ScoredSplit,
  other: scored_lib.ScoredSplit,
  *,
  bootstrap_samples: int,
) -> Comparison:
  """Compares a run with the first one, on the same posters.

  Args:
    first: the split as the first run scores it.
    other: as the other does.
    bootstrap_samples: resamples behind the intervals; 0 for none.

  Returns:
    What differs.
  """
  differences = bootstrap.differences(
    other.scores, first.scores, first.labels, num_samples=bootstrap_samples
  )
  for point, names in calibration_lib.DECISIONS.items():
    predicted, first_predicted = (
      of.predictor.calibration.predict_genres(of.scores, point)
      for of in (other, first)
    )
    fitted = bootstrap.differences(
      other.scores,
      first.scores,
      first.labels,
      predicted=predicted,
      other_predicted=first_predicted,
      names=tuple(names),
      num_samples=bootstrap_samples,
    )
    differences |= {shown: fitted[name] for name, shown in names.items()}
  hits = [
    np.take_along_axis(of.labels, metrics.top_k(of.scores), axis=1).sum(axis=1)
    for of in (other, first)
  ]
  change = hits[0] - hits[1]
  # The change of the genres that the poster has, to order by.
  moved = ((other.scores - first.scores) * first.labels).sum(axis=1)
  gained, lost = (
    sorted(np.flatnonzero(sign * change > 0), key=lambda i: -sign * moved[i])
    for sign in (1, -1)
  )
  return Comparison(
    differences=differences,
    gained=[_choose(first, other, i, 1) for i in gained[:_NUM_CHANGED]],
    lost=[_choose(first, other, i, -1) for i in lost[:_NUM_CHANGED]],
    num_gained=len(gained),
    num_lost=len(lost),
  )


def _choose(first, other, index, sign) -> posters.Choice:
  """A poster, for the genre of its own that moved most."""
  moved = np.where(
    first.labels[index] > 0,
    sign * (other.scores[index] - first.scores[index]),
    -np.inf,
  )
  genre = int(moved.argmax())
  return posters.Choice(
    int(index),
    genre,
    f'{first.genres[genre]} {first.scores[index, genre]:.2f} →'
    f' {other.scores[index, genre]:.2f}',
  )
