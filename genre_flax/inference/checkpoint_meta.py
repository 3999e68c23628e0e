"""The metadata of a checkpoint, validated: its source may be untrusted."""

from collections.abc import Collection, Mapping, Sequence
import dataclasses
from typing import Any

import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.datasets.posters import extra_columns as extra_columns_lib
from genre_flax.datasets.posters import text_features
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors

_MAX_GENRES = 10_000
_MAX_NAME_LENGTH = 200


@dataclasses.dataclass(frozen=True)
class Meta:
  """Everything that is needed to use a network, except its variables.

  Attributes:
    genres: the label names.
    label_prior: [num_genres], the share of each genre in the training split.
    constant_baseline: indices of the genres that maximize a metric on the
      training split if they are predicted for all posters, by metric.
    config: of the training.
    fingerprint: of the dataset of the training.
    calibration: fitted to the validation split.
    calibration_without_text: of a network with a text branch, for posters whose
      text is not read; None for other networks.
    extra_columns: of the dataset of the training.
  """

  genres: tuple[str, ...]
  label_prior: np.ndarray
  constant_baseline: Mapping[str, tuple[int, ...]]
  config: ml_collections.ConfigDict
  fingerprint: str
  calibration: calibration_lib.Calibration
  extra_columns: tuple[extra_columns_lib.ExtraColumn, ...] = ()
  calibration_without_text: calibration_lib.Calibration | None = None

  @property
  def side_inputs(self) -> tuple[text_features.SideInput, ...]:
    """The inputs of batches besides images."""
    return text_features.side_inputs(self.config.model, self.extra_columns)

  def to_dict(self) -> dict[str, Any]:
    """The values as JSON types, for `parse`."""
    return {
      'config': config_lib.to_dict(self.config),
      'genres': list(self.genres),
      'label_prior': self.label_prior.tolist(),
      'constant_baseline': dict(self.constant_baseline),
      'dataset_fingerprint': self.fingerprint,
      'calibration': self.calibration.to_dict(),
      'extra_columns': [dataclasses.asdict(c) for c in self.extra_columns],
      'calibration_without_text': (
        self.calibration_without_text
        and self.calibration_without_text.to_dict()
      ),
    }


def parse(
  stored: Mapping[str, Any],
  *,
  origin: str,
  allow_custom_code: bool | Collection[str],
) -> Meta:
  """Parses and validates the metadata of a checkpoint.

  Code that the config names as 'module:attribute' runs when it is imported.

  Raises:
    InputError: a value is invalid, or the network is custom code and that is
      not allowed.
  """
  try:
    config = config_lib.from_dict(stored['config'])
    names = config.model.name, config.objective.name
    own = [name for name in names if custom.is_custom(name)]
    trusted = allow_custom_code or ()
    if trusted is not True and not set(own) <= set(trusted):
      raise errors.InputError(
        f'The network or objective of {origin} is {own[0]!r}, which is not part'
        ' of genre_flax; loading it would run its code. If you trust the'
        ' workdir and the installed module of that name, pass'
        ' --allow_custom_code.'
      )
    config_validation.validate_values(config)
    genres = _parse_genres(stored['genres'])
    return Meta(
      genres=genres,
      label_prior=_parse_numbers(stored['label_prior'], len(genres)),
      constant_baseline={
        str(metric): _parse_indices(indices, len(genres))
        for metric, indices in stored['constant_baseline'].items()
      },
      config=config,
      fingerprint=str(stored['dataset_fingerprint']),
      calibration=_parse_calibration(stored.get('calibration'), genres),
      extra_columns=extra_columns_lib.parse(stored.get('extra_columns', ())),
      calibration_without_text=(
        _parse_calibration(stored.get('calibration_without_text'), genres)
        if config.model.use_text
        else None
      ),
    )
  except errors.InputError:
    raise
  except Exception as e:  # Depends on the stored values.
    raise errors.InputError(
      f'The metadata of the checkpoint in {origin} is invalid: {e!r}. Was it'
      ' written by this version of genre_flax?'
    ) from e


def _parse_genres(names: Sequence[str]) -> tuple[str, ...]:
  genres = tuple(names)
  if (
    not 1 <= len(genres) <= _MAX_GENRES
    or not all(isinstance(name, str) for name in genres)
    or max(map(len, genres)) > _MAX_NAME_LENGTH
    or len(set(genres)) < len(genres)
  ):
    raise ValueError(f'expected 1 to {_MAX_GENRES:,} unique names of genres')
  return genres


def _parse_numbers(values: Any, length: int) -> np.ndarray:
  numbers = np.asarray(values, float)
  if numbers.shape != (length,) or not np.isfinite(numbers).all():
    raise ValueError(f'expected {length} numbers, got {values!r:.100}')
  return numbers


def _parse_indices(values: Sequence[int], length: int) -> tuple[int, ...]:
  indices = tuple(int(value) for value in values)
  if not all(0 <= index < length for index in indices):
    raise ValueError(f'{indices} are not indices of {length} genres')
  return indices


def _parse_calibration(
  stored: Mapping[str, Any] | None, genres: tuple[str, ...]
) -> calibration_lib.Calibration:
  if stored is None:
    return calibration_lib.identity(genres)
  calibration = calibration_lib.from_dict(stored, genres=genres)
  arrays = (calibration.slope, calibration.intercept)
  for array in (*arrays, *calibration.thresholds.values()):
    _parse_numbers(array, len(genres))
  return calibration
