"""Weights that others published: a file, or a name on a model hub.

Files are of safetensors, whose reader runs no code.
"""

import dataclasses
import json
from typing import Any

from absl import logging
from etils import epath
import ml_dtypes  # noqa: F401  NumPy then knows bfloat16.
import numpy as np

from genre_flax.runtime import errors

_HUB = 'timm:'
_SUFFIX = '.safetensors'
_WEIGHTS, _CONFIG = 'model.safetensors', 'config.json'


@dataclasses.dataclass(frozen=True)
class Published:
  """Weights, as they were published.

  Attributes:
    arrays: by the names that their authors gave them.
    mean: of each colour, of pixels in [0, 1], that was subtracted in their
      training; None where that is not said.
    std: that was divided by then; None as well.
    origin: of them, for messages.
  """

  arrays: dict[str, np.ndarray]
  mean: tuple[float, float, float] | None
  std: tuple[float, float, float] | None
  origin: str


def is_source(source: str) -> bool:
  """Whether `read` takes it: 'timm:NAME', or a path of a safetensors file."""
  return source.startswith(_HUB) or source.endswith(_SUFFIX)


def read(source: str) -> Published:
  """Reads published weights.

  Args:
    source: 'timm:NAME' of a network of timm's on the Hugging Face hub, fetched
      once and kept in the user's cache; or the path of a file. What the pixels
      were is read from the config.json beside it, which the hub has too.

  Raises:
    InputError: they cannot be had, or are no such file.
  """
  if source.startswith(_HUB):
    weights, config = _fetch(source.removeprefix(_HUB))
  else:
    weights = epath.Path(source).expanduser()
    config = weights.parent / _CONFIG
  mean, std = _read_pixels(config)
  return Published(_read_arrays(weights), mean, std, origin=source)


def _read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    from safetensors import numpy as safetensors
  except ImportError:
    raise errors.InputError(
      f"{path} needs safetensors: pip install -e '.[pretrained]'"
    ) from None
  try:
    arrays = safetensors.load(path.read_bytes())
  except FileNotFoundError:
    raise errors.InputError(f'There is no file of weights {path}.') from None
  except Exception as e:  # Of the library, which has no class of its own.
    raise errors.InputError(
      f'{path} is no file of safetensors that can be read: {e}'
    ) from e
  return {name: array.astype(np.float32) for name, array in arrays.items()}


def _read_pixels(path: epath.Path) -> tuple[Any, Any]:
  """(mean, std) of a config.json as timm writes it; None each where not."""
  try:
    stored = json.loads(path.read_bytes())
    given = stored.get('pretrained_cfg', stored)
    mean, std = (
      tuple(float(value) for value in given[key]) for key in ('mean', 'std')
    )
    if len(mean) == len(std) == 3 and min(std) > 0:
      return mean, std
    raise ValueError(f'mean {mean} and std {std} are not of three colours')
  except FileNotFoundError:
    logging.warning(
      'There is no %s that says what pixels the weights were trained with;'
      ' config.pixel_mean and config.pixel_scale are taken to be so.',
      path,
    )
  except (ValueError, KeyError, TypeError, AttributeError) as e:
    logging.warning(
      '%s does not say what pixels the weights were trained with (%r);'
      ' config.pixel_mean and config.pixel_scale are taken to be so.',
      path,
      e,
    )
  return None, None


def _fetch(name: str) -> tuple[epath.Path, epath.Path]:
  """The files of a network on the hub, in the user's cache."""
  try:
    import huggingface_hub
  except ImportError:
    raise errors.InputError(
      f"{_HUB}{name} needs huggingface_hub: pip install -e '.[pretrained]'"
    ) from None
  repository = f'timm/{name}'
  try:
    return tuple(
      epath.Path(huggingface_hub.hf_hub_download(repository, file))
      for file in (_WEIGHTS, _CONFIG)
    )
  except Exception as e:  # Of the network, the hub, the disk.
    reason = str(e).strip().partition('\n')[0].rstrip('.')
    reason = reason or type(e).__name__
    raise errors.InputError(
      f'{_HUB}{name} is not in the cache and cannot be fetched: {reason}. Where'
      f' there is a network, `hf download {repository} {_WEIGHTS} {_CONFIG}'
      ' --local-dir FOLDER`; then give'
      f' --config.pretrained=FOLDER/{_WEIGHTS}.'
    ) from e
