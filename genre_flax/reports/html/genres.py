"""Metrics per genre, and confusions between genres."""

import dataclasses
from typing import Any

import numpy as np

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import ranking
from genre_flax.inference import scored_split as scored_lib

# The operating point of precision and recall.
_OPERATING_POINT = 'macro_f1'
_MAX_CONFUSIONS, _MIN_SUPPORT = 12, 5


@dataclasses.dataclass(frozen=True)
class GenreMetrics:
  """The metrics of a genre.

  Attributes:
    name: of the genre.
    support: number of posters that have the genre.
    is_trained: whether training posters have the genre.
    average_precision: with its interval.
    roc_auc: with its interval.
    baseline: average precision of a constant score.
    threshold: of the calibrated score, fitted to the validation split.
    precision: at the threshold; NaN if no poster reaches it.
    recall: at the threshold; NaN if no poster has the genre.
    curve: recalls and precisions at each distinct score, in descending order.
  """

  name: str
  support: int
  is_trained: bool
  average_precision: bootstrap.Estimate
  roc_auc: bootstrap.Estimate
  baseline: float
  threshold: float
  precision: float
  recall: float
  curve: tuple[np.ndarray, np.ndarray]


def compute_metrics(
  scored: scored_lib.ScoredSplit, *, bootstrap_samples: int
) -> list[GenreMetrics]:
  """The metrics of all genres of a split, the most frequent genre first."""
  scores, labels = scored.scores, scored.labels > 0
  calibration = scored.predictor.calibration
  predicted = calibration.predict_genres(scores, _OPERATING_POINT)
  estimates = bootstrap.per_genre(
    scores, scored.labels, num_samples=bootstrap_samples
  )
  ranked = ranking.Ranked.by_genre(scores, scored.labels)
  correct = (predicted & labels).sum(axis=0)
  precision = ranking.divide(correct, predicted.sum(axis=0), empty=np.nan)
  recall = ranking.divide(correct, labels.sum(axis=0), empty=np.nan)
  genres = [
    GenreMetrics(
      name=name,
      support=int(labels[:, i].sum()),
      is_trained=bool(scored.predictor.label_prior[i] > 0),
      average_precision=estimates['average_precision'][i],
      roc_auc=estimates['roc_auc'][i],
      baseline=float(labels[:, i].mean()),
      threshold=float(calibration.thresholds[_OPERATING_POINT][i]),
      precision=float(precision[i]),
      recall=float(recall[i]),
      curve=_precision_recall_curve(ranked, i),
    )
    for i, name in enumerate(scored.genres)
  ]
  return sorted(genres, key=lambda genre: -genre.support)


def _precision_recall_curve(ranked, genre):
  ends = ranked.is_last_of_tie[genre]
  true = np.cumsum(ranked.labels[genre])[ends]
  return true / max(true[-1], 1), true / (np.flatnonzero(ends) + 1)


def means_by_label(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
  """Means over the posters of each genre.

  Args:
    labels: [N, L] of 0 and 1.
    values: [N, L], such as scores, or the labels for their co-occurrence.

  Returns:
    [L, L]: the mean of values[:, j] over the posters with genre i; NaN if there
    are none.
  """
  labels = labels.astype(float)
  return ranking.divide(
    labels.T @ values, labels.sum(axis=0)[:, None], empty=np.nan
  )


def find_confusions(scored: scored_lib.ScoredSplit) -> list[dict[str, Any]]:
  """Finds genres whose scores are high for posters of another genre.

  Returns:
    At most 12 of {'label': a genre of at least 5 posters, 'predicted': a genre
    that they do not have, 'score': its mean score over these posters, 'usual':
    that over all posters without it, 'support': the number of posters}, in
    descending order of the difference of the score to the usual one.
  """
  scores, labels = scored.scores, scored.labels > 0
  confusions = []
  for i, predicted in enumerate(scored.genres):
    without = ~labels[:, i]
    for j, label in enumerate(scored.genres):
      chosen = labels[:, j] & without
      if i != j and chosen.sum() >= _MIN_SUPPORT:
        confusions.append(
          {
            'label': label,
            'predicted': predicted,
            'score': scores[chosen, i].mean(),
            'usual': scores[without, i].mean(),
            'support': chosen.sum(),
          }
        )
  confusions = [each for each in confusions if each['score'] > each['usual']]
  confusions.sort(key=lambda each: each['usual'] - each['score'])
  return confusions[:_MAX_CONFUSIONS]
