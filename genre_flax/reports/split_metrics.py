"""Metrics of a split: metrics.json and tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import json
import math
import shlex
from typing import Any

from absl import logging
from etils import epath
from etils import epy
import numpy as np

from genre_flax.checkpoints import released
from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.evaluation import metrics
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import regular_files
from genre_flax.runtime import text

with epy.lazy_imports():
  from genre_flax.inference import scored_split as scored_lib

FILE_NAME = 'metrics.json'
_ENTRY_KEYS = ('value', 'low', 'high', 'constant_baseline')
_GAIN_KEYS = ('value', 'difference', 'low', 'high')
_GENRE_VALUES = ('average_precision', 'roc_auc', 'train_share', 'threshold')
_GENRE_COUNTS = ('support', 'num_in_top3', 'num_predicted')
_MAX_BYTES = 1 << 26


def make_report(
  scored: scored_lib.ScoredSplit, *, bootstrap_samples: int
) -> dict[str, Any]:
  """All metrics of a split, with their intervals and the constant baseline.

  Metrics of predicted genres are given at threshold 0.5 and, with the suffix
  _fitted, at the operating point that was fitted to the validation split.

  The constant baseline assigns the shares of the genres in the training split
  as scores to every poster. For metrics at 3 it predicts the best three genres
  of the training split, for fitted metrics the best set of most frequent ones.

  Returns:
    {'split', 'step', 'num_examples', 'metrics': {name: {'value', 'low', 'high',
    'constant_baseline'}}, 'expected_calibration_error': {'network',
    'calibrated'}, 'genres': {name: {'average_precision', 'roc_auc', 'support',
    'train_share', 'threshold', 'num_in_top3', 'num_predicted'}}}; undefined
    values are None. The last two count the posters whose top-3 predictions
    contain the genre, and those where its score reaches its threshold. Of a
    network with a text branch also 'without_text', the metrics of the image
    alone: {name: {'value', 'difference', 'low', 'high'}}, the gain by the text
    with its paired interval.
  """
  scores, labels = scored.scores, scored.labels
  estimates = bootstrap.intervals(
    metric_inputs(scored), num_samples=bootstrap_samples
  )
  baseline = _constant_baseline(
    labels, scored.predictor.label_prior, scored.predictor.constant_baseline
  )
  error = calibration_lib.expected_calibration_error
  without_text = _without_text(scored, bootstrap_samples)
  return {
    'split': scored.name,
    'step': scored.predictor.step,
    'num_examples': len(labels),
    'metrics': {
      name: dict(
        zip(
          _ENTRY_KEYS, map(_to_json, (*estimate, baseline[name])), strict=True
        )
      )
      for name, estimate in estimates.items()
    },
    'expected_calibration_error': {
      'network': error(scored.predictions.scores, labels),
      'calibrated': error(scores, labels),
    },
    'genres': _by_genre(scores, labels, scored.predictor),
    **({'without_text': without_text} if without_text else {}),
  }


def _without_text(scored, bootstrap_samples):
  if scored.without_text is None:
    return None
  ours, others = (
    bootstrap.samples(metric_inputs(each), num_samples=bootstrap_samples)
    for each in (scored, scored.without_text)
  )
  gains = bootstrap.differences([ours], [others])
  return {
    name: dict(
      zip(
        _GAIN_KEYS,
        map(_to_json, (others[name][0], gain.value, gain.low, gain.high)),
        strict=True,
      )
    )
    for name, gain in gains.items()
  }


def metric_inputs(scored: scored_lib.ScoredSplit) -> metrics.Inputs:
  """The inputs of the metrics of a split, with all operating points."""
  scores, calibration = scored.scores, scored.predictor.calibration
  fitted = {
    point: calibration.predict_genres(scores, point)
    for point in calibration_lib.OPERATING_POINTS
  }
  return metrics.Inputs(scores, scored.labels, fitted=fitted)


def _by_genre(scores, labels, predictor):
  calibration = predictor.calibration
  estimates = bootstrap.per_genre(scores, labels, num_samples=0)
  num_in_top3 = np.bincount(
    metrics.top_k(scores).ravel(), minlength=len(calibration.genres)
  )
  num_predicted = calibration.predict_genres(scores, 'macro_f1').sum(axis=0)
  return {
    genre: {
      **{name: _to_json(values[i].value) for name, values in estimates.items()},
      'support': int(labels[:, i].sum()),
      'train_share': float(predictor.label_prior[i]),
      'threshold': float(calibration.thresholds['macro_f1'][i]),
      'num_in_top3': int(num_in_top3[i]),
      'num_predicted': int(num_predicted[i]),
    }
    for i, genre in enumerate(calibration.genres)
  }


def _constant_baseline(labels, label_prior, best_genres):
  """The metrics of the constant baseline."""
  values = metrics.compute(np.tile(label_prior, (len(labels), 1)), labels)
  for name, genres in best_genres.items():
    scores = np.zeros(labels.shape)
    scores[:, list(genres)] = 1.0
    values |= metrics.compute(scores, labels, names=(name,))
  for point in calibration_lib.OPERATING_POINTS:
    best = _best_constant_set(point, labels, label_prior)
    values[f'{point}{metrics.FITTED}'] = best
  return values


def _best_constant_set(name, labels, label_prior):
  """The best metric of the n most frequent genres for every poster."""
  predicted, values = np.zeros(labels.shape, bool), []
  for genre in np.argsort(-label_prior, kind='stable'):
    predicted[:, genre] = True
    found = metrics.compute(labels, labels, predicted=predicted, names=(name,))
    values.append(found[name])
  return max(values)


def write(report: dict[str, Any], folder: epath.Path) -> epath.Path:
  """Writes metrics.json into `folder` and returns its path.

  Raises:
    StorageError: it cannot be written.
  """
  path = folder / FILE_NAME
  files.write_atomic(path, json.dumps(report, indent=2) + '\n')
  return path


def read(
  workdir: epath.PathLike, *, step: int, genres: tuple[str, ...]
) -> dict[str, Any] | None:
  """Reads the metrics of a checkpoint, written by a training or by `top3`.

  Returns:
    As of `make_report`; None if there are none.

  Raises:
    InputError: a metrics.json is invalid.
  """
  reports = _read_all(epath.Path(workdir), step, genres)
  return next((report for report in reports if report['step'] == step), None)


def read_by_split(
  workdir: epath.PathLike, *, step: int, genres: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
  """Reads the metrics of a checkpoint, as `read`, by split."""
  reports = _read_all(epath.Path(workdir), step, genres)
  return {each['split']: each for each in reports if each['step'] == step}


def read_any(
  workdir: epath.PathLike, *, step: int, genres: tuple[str, ...]
) -> dict[str, Any] | None:
  """Reads the metrics of a checkpoint, or else of another one of the run.

  As `read`, except that an invalid metrics.json is logged and gives None.
  """
  try:
    reports = list(_read_all(epath.Path(workdir), step, genres))
  except errors.InputError as e:
    logging.warning('No metrics are shown. %s', e)
    return None
  return min(reports, key=lambda each: each['step'] != step, default=None)


def _read_all(workdir, step, genres) -> Iterator[dict[str, Any]]:
  """The reports of a workdir, that of the training first, or of a release."""
  folder = released.find(str(workdir))
  if folder is not None:
    stored = released.read_config(folder).get('metrics') or {}
    try:
      reports = [_parse(each, genres) for each in stored.values()]
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      raise errors.InputError(
        f'The metrics in {folder} are invalid: {e!r}.'
      ) from e
    yield from reports
    return
  for folder in ('', f'eval/test_{step}', f'eval/validation_{step}'):
    path = workdir / folder / FILE_NAME
    try:
      content = regular_files.read(path, max_bytes=_MAX_BYTES)
    except regular_files.NotReadableError:
      continue
    try:
      yield _parse(json.loads(content), genres)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      raise errors.InputError(
        f'{path} is invalid: {e!r}. Move it away, and evaluate with `python -m'
        f' genre_flax.top3 --model={shlex.quote(str(workdir))} --step={step}'
        ' --split=test`.'
      ) from e


def _parse(stored: Mapping[str, Any], genres) -> dict[str, Any]:
  """Validates a report, whose source may be untrusted."""
  if set(stored['genres']) != set(genres):
    raise ValueError('its genres differ from those of the network')
  error = stored['expected_calibration_error']
  optional = {}
  if 'without_text' in stored:
    optional['without_text'] = {
      str(name): {key: _parse_number(entry[key]) for key in _GAIN_KEYS}
      for name, entry in stored['without_text'].items()
    }
  return {
    **optional,
    'split': str(stored['split']),
    'step': int(stored['step']),
    'num_examples': int(stored['num_examples']),
    'metrics': {
      str(name): {key: _parse_number(entry[key]) for key in _ENTRY_KEYS}
      for name, entry in stored['metrics'].items()
    },
    'expected_calibration_error': {
      key: float(error[key]) for key in ('network', 'calibrated')
    },
    'genres': {
      genre: {key: _parse_number(values[key]) for key in _GENRE_VALUES}
      | {key: int(values[key]) for key in _GENRE_COUNTS}
      for genre, values in ((g, stored['genres'][g]) for g in genres)
    },
  }


def _parse_number(value):
  return None if value is None else _to_json(float(value))


def _to_json(value: float) -> float | None:
  """A float, or None if it is not finite, which JSON does not support."""
  return float(value) if math.isfinite(value) else None


def format_metrics(report: dict[str, Any]) -> str:
  """The metrics as a table for the terminal."""
  lines = [
    f'{"metric":<24}{"value":>8}  {"95 % interval":^18}{"baseline":>9}',
    '-' * 61,
  ]
  for name, entry in report['metrics'].items():
    interval = f'{_show(entry["low"])} to {_show(entry["high"])}'
    lines.append(
      f'{name:<24}{_show(entry["value"]):>8}  {interval:^18}'
      f'{_show(entry["constant_baseline"]):>9}'
    )
  if gains := report.get('without_text'):
    lines += [
      '',
      f'{"metric":<24}{"image":>8}{"+ text":>9}  {"95 % interval":^18}',
      '-' * 61,
    ]
    lines += [
      f'{name:<24}{_show(each["value"]):>8}{_show_gain(each["difference"]):>9}'
      f'  {_show_gain(each["low"])} to {_show_gain(each["high"])}'
      for name, each in gains.items()
    ]
    lines += ['(image: without the text on the posters)', '']
  error = report['expected_calibration_error']
  lines += [
    '(baseline: the constant baseline, the same for every poster; _fitted: at'
    ' the operating point',
    'that was fitted to the validation split, else at 0.5)',
    describe_means(report),
    f'Expected calibration error: {error["calibrated"]:.4f}'
    f' ({error["network"]:.4f} before calibration)',
  ]
  return '\n'.join(lines)


def describe_means(report: dict[str, Any]) -> str:
  """The genres that means over genres are of, as one sentence."""
  missing = [
    name for name, entry in report['genres'].items() if not entry['support']
  ]
  count = len(report['genres'])
  if not missing:
    return f'Means are over all {count} genres.'
  return (
    f'Mean AP and AUC are over {count - len(missing)} of {count} genres, and'
    f' macro-F1 over all; no poster of the split has'
    f' {text.printable(text.join_first(missing))}.'
  )


def format_genres(report: dict[str, Any]) -> str:
  """The genres as a table for the terminal, the most frequent first."""
  lines = [
    f'{"genre":<24}{"AP":>8}{"AUC":>8}{"posters":>9}{"of train":>10}',
    '-' * 59,
  ]
  lines += [
    f'{text.printable(name):<24}{_show(entry["average_precision"]):>8}'
    f'{_show(entry["roc_auc"]):>8}{entry["support"]:>9}'
    f'{_show_share(entry["train_share"]):>10}'
    for name, entry in sorted(
      report['genres'].items(), key=lambda item: -item[1]['support']
    )
  ]
  return '\n'.join(lines)


def format_top3(
  name: str,
  scores: np.ndarray,
  genres: Sequence[str],
  *,
  top: int = metrics.TOP_K,
  threshold: float = 0.0,
) -> str:
  """A line with the name of a poster and its top predictions."""
  found = [
    i for i in metrics.top_k(scores[None], top)[0] if scores[i] >= threshold
  ]
  parts = [name, *(f'{genres[i]} {scores[i]:.2f}' for i in found)]
  return '  '.join(map(text.printable, parts))


def _show_share(value: float | None) -> str:
  return '-' if value is None else f'{value:.2%}' if value else 'none'


def _show_gain(value: float | None) -> str:
  return '-' if value is None else f'{value:+.4f}'


def _show(value: float | None) -> str:
  return '-' if value is None else f'{value:.4f}'
