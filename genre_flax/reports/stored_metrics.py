"""The metrics that a workdir keeps, read for what is made of them later."""

from collections.abc import Iterator, Mapping
import json
import math
from typing import Any

from absl import logging
from etils import epath

from genre_flax.reports import split_metrics
from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

_SPLITS = ('test', 'validation')
_MAX_BYTES = 1 << 26


def read(
  workdir: epath.PathLike, *, step: int, genres: tuple[str, ...]
) -> dict[str, Any] | None:
  """Reads metrics.json, as a training or `top3 --split` left it.

  Args:
    workdir: of the run.
    step: of the checkpoint.
    genres: of the network.

  Returns:
    As of `split_metrics.make_report`, with 'split' and 'step'; None where there
    is none of the checkpoint.

  Raises:
    InputError: there is one, and it is not what this program writes.
  """
  of_step = (
    found
    for found in _all(epath.Path(workdir), step, genres)
    if found['step'] == step
  )
  return next(of_step, None)


def read_any(
  workdir: epath.PathLike, *, step: int, genres: tuple[str, ...]
) -> dict[str, Any] | None:
  """Reads what there is to be shown: of the checkpoint, or of another one.

  Args:
    workdir: of the run.
    step: of the checkpoint that is wanted.
    genres: of the network.

  Returns:
    As `read` does, of any step; None where there is nothing, or where it is not
    what this program writes, which is logged.
  """
  try:
    found = list(_all(epath.Path(workdir), step, genres))
  except errors.InputError as e:
    logging.warning('No metrics are shown. %s', e)
    return None
  return min(found, key=lambda one: one['step'] != step, default=None)


def _all(workdir, step, genres) -> Iterator[dict[str, Any]]:
  """What there is, that which a training left first."""
  folders = [f'eval/{split}_{step}' for split in _SPLITS]
  for folder in (workdir, *(workdir / name for name in folders)):
    path = folder / split_metrics.FILE_NAME
    found = _read(path)
    if found is None:
      continue
    try:
      yield _checked(found, genres)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      raise errors.InputError(
        f'{path} is not what this program writes: {e!r}. Evaluate anew with'
        f' `python -m genre_flax.top3 --workdir={workdir} --step={step}'
        ' --split=test`, and move the file away.'
      ) from e


def _read(path):
  try:
    found = json.loads(regular_files.read(path, max_bytes=_MAX_BYTES))
  except regular_files.NotReadableError:
    return None
  except ValueError as e:
    raise errors.InputError(f'{path} is no JSON: {e}') from e
  return found if isinstance(found, dict) else None


def _checked(found: Mapping[str, Any], genres) -> dict[str, Any]:
  """The parts that the card shows, each of its kind."""
  if set(found['genres']) != set(genres):
    raise ValueError('it is of other genres')
  error = found['expected_calibration_error']
  return {
    'split': str(found['split']),
    'step': int(found['step']),
    'num_examples': int(found['num_examples']),
    'metrics': {
      str(name): {
        key: _number(entry[key]) for key in ('value', 'low', 'high', 'trivial')
      }
      for name, entry in found['metrics'].items()
    },
    'expected_calibration_error': {
      key: float(error[key]) for key in ('network', 'calibrated')
    },
    'genres': {genre: _genre(found['genres'][genre]) for genre in genres},
  }


def _genre(entry):
  """Of one genre; earlier versions did not count who is given it."""
  return {
    'average_precision': _number(entry['average_precision']),
    'roc_auc': _number(entry['roc_auc']),
    'support': int(entry['support']),
    'threshold': _number(entry['threshold']),
    **{
      key: int(entry[key]) if key in entry else None
      for key in ('in_top_three', 'decided')
    },
  }


def _number(value):
  """A float, or None where it is not defined."""
  if value is None:
    return None
  value = float(value)
  return value if math.isfinite(value) else None
