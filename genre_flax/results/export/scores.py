"""The metrics that a workdir has of a checkpoint, for its model card."""

from collections.abc import Mapping
import json
import math
from typing import Any

from etils import epath

from genre_flax.results import report as report_lib
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
    As of `report.make_report`, with 'split'; None where there is none of the
    checkpoint.

  Raises:
    InputError: there is one, and it is not what this program writes.
  """
  workdir = epath.Path(workdir)
  for path in (
    workdir / report_lib.FILE_NAME,
    *(
      workdir / 'eval' / f'{split}_{step}' / report_lib.FILE_NAME
      for split in _SPLITS
    ),
  ):
    found = _read(path)
    if found is None or found.get('step') != step:
      continue
    try:
      return _checked(found, genres)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      raise errors.InputError(
        f'{path} is not what this program writes: {e!r}. Evaluate anew with'
        f' `python -m genre_flax.top3 --workdir={workdir} --step={step}'
        ' --split=test`, and move the file away.'
      ) from e
  return None


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
