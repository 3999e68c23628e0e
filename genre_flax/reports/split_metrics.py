"""The scores of a split, as JSON and as a table to read."""

from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

from etils import epath
import numpy as np

from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.evaluation import evaluate
from genre_flax.evaluation import metrics
from genre_flax.evaluation import ranking
from genre_flax.runtime import files
from genre_flax.runtime import text

FILE_NAME = 'metrics.json'


def make_report(
  predictions: evaluate.Predictions,
  *,
  calibration: calibration_lib.Calibration,
  label_prior: np.ndarray,
  constant_answers: Mapping[str, Sequence[int]],
  bootstrap_samples: int,
) -> dict[str, Any]:
  """All metrics of a split, with what they are worth beside them.

  Metrics of decisions are given at threshold 0.5 and, with the suffix _fitted,
  as they were fitted to the validation split; those of three genres of the
  highest scores and, with the suffix _together, of those that say most
  together.

  Args:
    predictions: of the whole split.
    calibration: of the network.
    label_prior: [num_genres], the training split's share of each genre. The
      trivial predictor gives these scores to every poster; for a fitted metric
      it gives the best constant set of the most frequent genres.
    constant_answers: the genres that it names instead, by metric: those that
      score highest on the training split.
    bootstrap_samples: resamples behind the intervals; 0 for no intervals.

  Returns:
    {'num_examples', 'loss', 'metrics': {name: {'value', 'low', 'high',
    'trivial'}}, 'expected_calibration_error': {'network', 'calibrated'},
    'genres': {name: {'average_precision', 'roc_auc', 'support', 'threshold',
    'in_top_three', 'decided'}}}; what is not defined is None. The last two
    count the posters that are given the genre, among three and at its
    threshold.
  """
  labels = predictions.labels
  scores = calibration.to_scores(predictions.logits)
  trivial = _trivial(labels, label_prior, constant_answers)
  entries = _entries(
    scores,
    labels,
    trivial=trivial,
    bootstrap_samples=bootstrap_samples,
  )
  for point, names in calibration_lib.DECISIONS.items():
    fitted = _entries(
      scores,
      labels,
      decided=calibration.decide(scores, point),
      names=tuple(names),
      trivial={
        # Of three that are named, the best are known.
        name: trivial[name]
        if point == calibration_lib.THREE_TOGETHER
        else _best_constant_set(name, labels, label_prior)
        for name in names
      },
      bootstrap_samples=bootstrap_samples,
    )
    entries |= {shown: fitted[name] for name, shown in names.items()}
  error = calibration_lib.expected_calibration_error
  return {
    'num_examples': len(labels),
    'loss': predictions.loss,
    'metrics': entries,
    'expected_calibration_error': {
      'network': error(predictions.scores, labels),
      'calibrated': error(scores, labels),
    },
    'genres': _of_genres(scores, labels, calibration),
  }


def _entries(scores, labels, *, trivial, bootstrap_samples, **options):
  """{name: {'value', 'low', 'high', 'trivial'}} of some metrics."""
  values = metrics.compute(scores, labels, **options)
  intervals = bootstrap.intervals(
    scores, labels, num_samples=bootstrap_samples, **options
  )
  return {
    name: {
      'value': _number(values[name][0]),
      'low': _number(intervals[name][0]),
      'high': _number(intervals[name][1]),
      'trivial': _number(np.max(trivial[name])),
    }
    for name in values
  }


def _of_genres(scores, labels, calibration):
  """{genre: {'average_precision', ...}}, as `make_report` gives it."""
  ranked = ranking.Ranked.by_genre(scores, labels)
  ones = np.ones((1, len(scores)))
  average_precision = ranking.average_precision(ranked, ones)[0]
  roc_auc = ranking.roc_auc(ranked, ones)[0]
  named = np.bincount(
    metrics.top_k(scores).ravel(), minlength=len(calibration.genres)
  )
  decided = calibration.decide(scores, 'macro_f1').sum(axis=0)
  return {
    genre: {
      'average_precision': _number(average_precision[i]),
      'roc_auc': _number(roc_auc[i]),
      'support': int(labels[:, i].sum()),
      'threshold': float(calibration.thresholds['macro_f1'][i]),
      'in_top_three': int(named[i]),
      'decided': int(decided[i]),
    }
    for i, genre in enumerate(calibration.genres)
  }


def _trivial(labels, label_prior, constant_answers):
  """The metrics of a predictor that says the same of every poster."""
  values = metrics.compute(np.tile(label_prior, (len(labels), 1)), labels)
  for name, named in constant_answers.items():
    scores = np.zeros(labels.shape)
    scores[:, list(named)] = 1.0
    values |= metrics.compute(scores, labels, names=(name,))
  return values


def _best_constant_set(name, labels, label_prior):
  """The metric of the best answer that is the same for every poster."""
  by_share = np.argsort(-label_prior, kind='stable')
  values = []
  for size in range(1, len(by_share) + 1):
    decided = np.zeros(labels.shape, bool)
    decided[:, by_share[:size]] = True
    values.append(
      metrics.compute(labels, labels, decided=decided, names=(name,))[name]
    )
  return np.concatenate(values)


def write_report(report: dict[str, Any], folder: epath.Path) -> epath.Path:
  """Writes metrics.json into `folder`, and returns its path."""
  path = folder / FILE_NAME
  files.write_atomic(path, json.dumps(report, indent=2) + '\n')
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
    '(trivial: the same answer for every poster, from the shares of the genres'
    ' in the training\nsplit; _fitted: decided as fitted to the validation'
    ' split, else at 0.5; _together: three\ngenres that say most together, else'
    ' the three highest scores)'
  )
  error = report['expected_calibration_error']
  lines.append(
    f'Expected calibration error: {error["calibrated"]:.4f}'
    f' ({error["network"]:.4f} before calibration)'
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
      f'{text.printable(name):<24}{_show(entry["average_precision"]):>8}'
      f'{_show(entry["roc_auc"]):>8}{entry["support"]:>9}'
    )
  return '\n'.join(lines)


def format_top_three(
  name: str, scores: np.ndarray, genres: Sequence[str]
) -> str:
  """One line: the name and the three likeliest genres with their scores."""
  named = metrics.top_k(scores[None])[0]
  parts = [name, *(f'{genres[i]} {scores[i]:.2f}' for i in named)]
  return '  '.join(map(text.printable, parts))


def _number(value: float) -> float | None:
  """A float that JSON can hold."""
  return float(value) if math.isfinite(value) else None


def _show(value: float | None) -> str:
  return '-' if value is None else f'{value:.4f}'
