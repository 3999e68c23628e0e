"""The scores of a split, as JSON and as a table to read."""

from collections.abc import Sequence
import json
import math
from typing import Any

from etils import epath
import numpy as np

from genre_flax import evaluate
from genre_flax import metrics

FILE_NAME = 'metrics.json'


def make_report(
  predictions: evaluate.Predictions,
  *,
  genres: Sequence[str],
  label_prior: np.ndarray,
  bootstrap_samples: int,
) -> dict[str, Any]:
  """All metrics of a split, with what they are worth beside them.

  Args:
    predictions: of the whole split.
    genres: the label names.
    label_prior: [num_genres], the training split's share of each genre. The
      trivial predictor gives these scores to every poster.
    bootstrap_samples: resamples behind the intervals; 0 for no intervals.

  Returns:
    {'num_examples', 'loss', 'metrics': {name: {'value', 'low', 'high',
    'trivial'}}, 'genres': {name: {'average_precision', 'roc_auc', 'support'}}};
    what is not defined is None.
  """
  scores, labels = predictions.scores, predictions.labels
  values = metrics.compute(scores, labels)
  trivial = metrics.compute(np.tile(label_prior, (len(labels), 1)), labels)
  intervals = dict.fromkeys(values, (math.nan, math.nan))
  if bootstrap_samples:
    intervals = metrics.bootstrap_intervals(
      scores, labels, num_samples=bootstrap_samples
    )
  ranked, ones = metrics.Ranked.of(scores, labels), np.ones((1, len(scores)))
  average_precision = metrics.average_precision(ranked, ones)[0]
  roc_auc = metrics.roc_auc(ranked, ones)[0]
  return {
    'num_examples': len(labels),
    'loss': predictions.loss,
    'metrics': {
      name: {
        'value': _number(values[name][0]),
        'low': _number(intervals[name][0]),
        'high': _number(intervals[name][1]),
        'trivial': _number(trivial[name][0]),
      }
      for name in values
    },
    'genres': {
      genre: {
        'average_precision': _number(average_precision[i]),
        'roc_auc': _number(roc_auc[i]),
        'support': int(labels[:, i].sum()),
      }
      for i, genre in enumerate(genres)
    },
  }


def write_report(report: dict[str, Any], folder: epath.Path) -> epath.Path:
  """Writes metrics.json into `folder`, and returns its path."""
  path = folder / FILE_NAME
  path.write_text(json.dumps(report, indent=2) + '\n')
  return path


def format_metrics(report: dict[str, Any]) -> str:
  """The metrics as a table, the trivial predictor beside them."""
  lines = [
    f'{"metric":<24}{"value":>8}  {"95 % interval":^18}{"trivial":>8}',
    '-' * 60,
  ]
  for name, entry in report['metrics'].items():
    interval = f'{_show(entry["low"])} to {_show(entry["high"])}'
    lines.append(
      f'{name:<24}{_show(entry["value"]):>8}  {interval:^18}'
      f'{_show(entry["trivial"]):>8}'
    )
  lines.append(
    '(trivial: the same scores for every poster, the share of each genre in the'
    ' training split)'
  )
  return '\n'.join(lines)


def format_genres(report: dict[str, Any]) -> str:
  """The genres as a table, the most frequent first."""
  lines = [f'{"genre":<24}{"AP":>8}{"AUC":>8}{"posters":>9}', '-' * 49]
  by_support = sorted(
    report['genres'].items(), key=lambda item: -item[1]['support']
  )
  for name, entry in by_support:
    lines.append(
      f'{name:<24}{_show(entry["average_precision"]):>8}'
      f'{_show(entry["roc_auc"]):>8}{entry["support"]:>9}'
    )
  return '\n'.join(lines)


def format_top_three(
  name: str, scores: np.ndarray, genres: Sequence[str]
) -> str:
  """One line: the name and the three likeliest genres with their scores."""
  named = metrics.top_k(scores[None])[0]
  return '  '.join([name, *(f'{genres[i]} {scores[i]:.2f}' for i in named)])


def _number(value: float) -> float | None:
  """A float that JSON can hold."""
  return float(value) if math.isfinite(value) else None


def _show(value: float | None) -> str:
  return '-' if value is None else f'{value:.4f}'
