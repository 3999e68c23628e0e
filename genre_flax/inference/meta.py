"""What the meta of a checkpoint says, checked: it may come from a stranger."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors

_MAX_GENRES = 10_000
_MAX_NAME_LENGTH = 200


@dataclasses.dataclass(frozen=True)
class Meta:
  """All that is needed to use a network, beside its variables.

  Attributes:
    genres: the label names.
    label_prior: [num_genres], each genre's share of the training split.
    constant_answers: indices of the genres that score highest on it where all
      posters get the same, by metric.
    config: that it was trained with.
    fingerprint: of the data set that it was trained on.
    calibration: fitted to the validation split.
  """

  genres: tuple[str, ...]
  label_prior: np.ndarray
  constant_answers: Mapping[str, tuple[int, ...]]
  config: ml_collections.ConfigDict
  fingerprint: str
  calibration: calibration_lib.Calibration


def parse(
  stored: Mapping[str, Any], *, origin: str, allow_custom_code: bool
) -> Meta:
  """Reads the meta of a checkpoint.

  Args:
    stored: of `Checkpointer.read_meta`.
    origin: of it, for messages.
    allow_custom_code: whether a network of one's own, which the config names
      and this machine has, may be loaded, which runs its code.

  Returns:
    The meta.

  Raises:
    InputError: it says what cannot be, or its network is code of one's own and
      that is not allowed.
  """
  try:
    config = ml_collections.ConfigDict(stored['config'])
    if custom.is_custom(config.model.name) and not allow_custom_code:
      raise errors.InputError(
        f'The network of {origin} is {config.model.name!r}, code that is not'
        ' part of genre_flax, and loading it would run it. If you trust the'
        ' workdir and what this machine has under that name, pass'
        ' --allow_custom_code.'
      )
    config_lib.validate_values(config)
    genres = _read_genres(stored['genres'])
    return Meta(
      genres=genres,
      label_prior=_read_numbers(stored['label_prior'], len(genres)),
      constant_answers={
        str(metric): _read_indices(answer, len(genres))
        for metric, answer in stored.get('constant_answers', {}).items()
      },
      config=config,
      fingerprint=str(stored['dataset_fingerprint']),
      calibration=_read_calibration(stored.get('calibration'), genres),
    )
  except errors.InputError:
    raise
  except Exception as e:  # Whatever a stranger put there.
    raise errors.InputError(
      f'What {origin} says of its network cannot be used: {e!r}. Was it written'
      ' by this program?'
    ) from e


def _read_genres(names: Sequence[str]) -> tuple[str, ...]:
  genres = tuple(names)
  if (
    not 1 <= len(genres) <= _MAX_GENRES
    or not all(isinstance(name, str) for name in genres)
    or max(map(len, genres)) > _MAX_NAME_LENGTH
    or len(set(genres)) < len(genres)
  ):
    raise ValueError(
      f'the genres are no list of at most {_MAX_GENRES:,} different names'
    )
  return genres


def _read_numbers(values: Any, length: int) -> np.ndarray:
  numbers = np.asarray(values, float)
  if numbers.shape != (length,) or not np.isfinite(numbers).all():
    raise ValueError(f'expected {length} numbers, got {values!r:.100}')
  return numbers


def _read_indices(values: Sequence[int], length: int) -> tuple[int, ...]:
  indices = tuple(int(value) for value in values)
  if not all(0 <= index < length for index in indices):
    raise ValueError(f'{indices} are no genres, of {length}')
  return indices


def _read_calibration(
  stored: Mapping[str, Any] | None, genres: tuple[str, ...]
) -> calibration_lib.Calibration:
  if stored is None:
    return calibration_lib.identity(genres)
  calibration = calibration_lib.from_dict(stored, genres=genres)
  arrays = (calibration.slope, calibration.intercept)
  for array in (*arrays, *calibration.thresholds.values()):
    _read_numbers(array, len(genres))
  return calibration
