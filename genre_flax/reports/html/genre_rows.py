"""What a network knows of each genre, and which it takes for which."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import ranking
from genre_flax.inference import scored_split as scored_lib

# The decisions that precision and recall are of.
OPERATING_POINT = 'macro_f1'
_MAX_PAIRS = 12


@dataclasses.dataclass(frozen=True)
class GenreRow:
  """A row of the table of genres.

  Attributes:
    name: of the genre.
    support: posters of the split that have it.
    average_precision: with its interval.
    roc_auc: with its interval.
    trivial: the average precision of the same score for all posters.
    threshold: of the calibrated score, fitted to the validation split.
    precision: of the decisions at it; NaN where none was made.
    recall: of the decisions at it; NaN where no poster has the genre.
    curve: (recalls, precisions), one for each distinct score.
  """

  name: str
  support: int
  average_precision: bootstrap.Estimate
  roc_auc: bootstrap.Estimate
  trivial: float
  threshold: float
  precision: float
  recall: float
  curve: tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TakenFor:
  """A genre that posters of another are given, and have not.

  Attributes:
    true: the genre that the posters have.
    given: the genre that they have not.
    score: mean score of `given` over such posters.
    usual: mean score of `given` over all posters that have it not.
    support: such posters.
  """

  true: str
  given: str
  score: float
  usual: float
  support: int


def make_rows(
  scored: scored_lib.ScoredSplit, *, bootstrap_samples: int
) -> list[GenreRow]:
  """The genres of a split, the most frequent first.

  Args:
    scored: the split.
    bootstrap_samples: resamples behind the intervals; 0 for none.

  Returns:
    A row for each genre.
  """
  scores, labels = scored.scores, scored.labels > 0
  calibration = scored.predictor.calibration
  decided = calibration.predict_genres(scores, OPERATING_POINT)
  estimates = bootstrap.per_genre(
    scores, scored.labels, num_samples=bootstrap_samples
  )
  ranked = ranking.Ranked.by_genre(scores, scored.labels)
  right = (decided & labels).sum(axis=0)
  precision = ranking.divide(right, decided.sum(axis=0), empty=np.nan)
  recall = ranking.divide(right, labels.sum(axis=0), empty=np.nan)
  rows = [
    GenreRow(
      name=name,
      support=int(labels[:, i].sum()),
      average_precision=estimates['average_precision'][i],
      roc_auc=estimates['roc_auc'][i],
      trivial=float(labels[:, i].mean()),
      threshold=float(calibration.thresholds[OPERATING_POINT][i]),
      precision=float(precision[i]),
      recall=float(recall[i]),
      curve=_precision_recall(ranked, i),
    )
    for i, name in enumerate(scored.genres)
  ]
  return sorted(rows, key=lambda row: -row.support)


def _precision_recall(ranked, genre):
  """Of all thresholds at which they change, the highest score first."""
  ends = ranked.is_last_of_tie[genre]
  true = np.cumsum(ranked.labels[genre])[ends]
  given = np.flatnonzero(ends) + 1
  return ranking.divide(
    true, np.full(len(true), max(true[-1], 1))
  ), true / given


def mean_scores(scored: scored_lib.ScoredSplit) -> np.ndarray:
  """[L, L]: the mean score of genre j over the posters that have genre i."""
  labels = scored.labels.astype(float)
  return ranking.divide(
    labels.T @ scored.scores, labels.sum(axis=0)[:, None], empty=np.nan
  )


def co_occurrence(scored: scored_lib.ScoredSplit) -> np.ndarray:
  """[L, L]: the share of the posters with genre i that have genre j too."""
  labels = scored.labels.astype(float)
  return ranking.divide(
    labels.T @ labels, labels.sum(axis=0)[:, None], empty=np.nan
  )


def taken_for(
  scored: scored_lib.ScoredSplit, *, least_support: int = 5
) -> Sequence[TakenFor]:
  """Pairs of genres of which posters of one are given the other.

  Args:
    scored: the split.
    least_support: posters that have the one and not the other, to say anything.

  Returns:
    At most 12, those first whose score is farthest above the usual.
  """
  scores, labels = scored.scores, scored.labels > 0
  pairs = []
  for given, name in enumerate(scored.genres):
    without = ~labels[:, given]
    if not without.any():
      continue
    usual = scores[without, given].mean()
    for true, other in enumerate(scored.genres):
      chosen = labels[:, true] & without
      if true == given or chosen.sum() < least_support:
        continue
      score = scores[chosen, given].mean()
      pairs.append(
        TakenFor(other, name, float(score), float(usual), int(chosen.sum()))
      )
  pairs = [pair for pair in pairs if pair.score > pair.usual]
  return sorted(pairs, key=lambda pair: pair.usual - pair.score)[:_MAX_PAIRS]
