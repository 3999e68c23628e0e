"""Weights that others published: a file, or a name on a model hub.

Files are of safetensors or NumPy's .npz; no reader of them runs code. Whatever
names their authors gave, from here on they are timm's.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import json
import re
from typing import Any, NamedTuple

from absl import logging
from etils import epath
import numpy as np

from genre_flax.pretrained import big_vision_names
from genre_flax.pretrained import transformers_names
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

# What stands before a name on the hub, and who owns the repositories meant.
_HUBS = {'timm': 'timm/', 'hf': ''}
_NAME = re.compile(rf'({"|".join(_HUBS)}):.')
# Of others than timm, that turn theirs to timm's.
_NAMES = (big_vision_names, transformers_names)
FILES = (weight_files.SAFETENSORS, weight_files.NPZ)
_WEIGHTS = 'model.safetensors'
# Those that say what the pixels were: timm's, and transformers'.
_CONFIGS = ('config.json', 'preprocessor_config.json')
_MAX_CONFIG = 1 << 24


class Pixels(NamedTuple):
  """What was done to pixels in [0, 1].

  Attributes:
    mean: of each colour, that was subtracted.
    std: that was divided by then.
  """

  mean: tuple[float, float, float]
  std: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Description:
  """What is said of weights beside them; None where it is not.

  Attributes:
    pixels: that they were trained with.
    image_shape: (height, width) of the images, in pixels.
    architecture: timm's name of the network.
  """

  pixels: Pixels | None = None
  image_shape: tuple[int, int] | None = None
  architecture: str | None = None


@dataclasses.dataclass(frozen=True)
class Published:
  """Weights, as they were published.

  Attributes:
    arrays: float32, by timm's names; of a network that timm has not, by those
      of their authors.
    said: of them.
    origin: of them, for messages.
    beside: names of what their file holds beside the network, and is left.
  """

  arrays: dict[str, np.ndarray]
  said: Description
  origin: str
  beside: Sequence[str] = ()


def is_source(source: str) -> bool:
  """Whether `read` takes it: a name on the hub, or the path of a file."""
  return _NAME.match(source) is not None or source.endswith(FILES)


def read(source: str) -> Published:
  """Reads published weights.

  Args:
    source: 'timm:NAME' of a network of timm's, or 'hf:OWNER/NAME' of any, on
      the Hugging Face hub, fetched once and kept in the user's cache; or the
      path of a file of safetensors or an .npz of vit_jax or big_vision. What
      they were trained on is read from the config.json or
      preprocessor_config.json beside it, which the hub has too.

  Raises:
    InputError: they cannot be had, or are no such file.
  """
  if _NAME.match(source):
    weights, configs = _fetch(source)
  else:
    weights = epath.Path(source).expanduser()
    configs = [weights.parent / name for name in _CONFIGS]
  arrays = weight_files.read(weights)
  names = next((of for of in _NAMES if of.are_theirs(arrays)), None)
  if names is big_vision_names:
    said = Description(Pixels(names.MEAN, names.STD))
  else:
    said = _read_description(configs)
  if names is None:
    return Published(arrays, said, origin=source)
  try:
    renamed = names.to_timm(arrays)
  except (ValueError, IndexError, TypeError) as e:  # Of shapes.
    raise errors.InputError(
      f'{source} has the names of a network, and not its shapes: {e}'
    ) from e
  return Published(renamed, said, origin=source, beside=names.beside(arrays))


def _read_description(paths: Sequence[epath.Path]) -> Description:
  """What the files say together; of each thing the first that says it."""
  found, reasons = {}, []
  for path in paths:
    try:
      content = regular_files.read(path, max_bytes=_MAX_CONFIG)
      said = _description_of(json.loads(content))
    except (ValueError, TypeError, AttributeError, ArithmeticError) as e:
      reasons.append(f'{path} cannot be read: {e}')
    except RecursionError:
      reasons.append(f'{path} cannot be read: it is nested too deeply')
    else:
      found = {**said, **found}
      if 'pixels' not in said:
        reasons.append(f'{path} gives no mean and std of three colours')
  if 'pixels' not in found:
    logging.warning(
      'Nothing says what pixels the weights were trained with: %s.'
      ' config.pixel_mean and config.pixel_scale are taken to be so.',
      '; '.join(reasons) or 'there is no config beside them',
    )
  return Description(**found)


def _description_of(stored: dict[str, Any]) -> dict[str, Any]:
  """The attributes of a Description that a config of the hub gives."""
  said = {}
  if isinstance(stored.get('architecture'), str):
    said['architecture'] = stored['architecture']
  stored = stored.get('pretrained_cfg', stored)
  mean, std = (
    tuple(float(v) for v in stored.get(key, stored.get(f'image_{key}', ())))
    for key in ('mean', 'std')
  )
  if len(mean) == len(std) == 3 and min(std) > 0:
    if not np.isfinite([mean, std]).all():
      raise ValueError(f'a mean of {mean} and a std of {std}')
    said['pixels'] = Pixels(mean, std)
  size = stored.get('input_size')
  if isinstance(size, list) and len(size) == 3:
    said['image_shape'] = int(size[1]), int(size[2])
  return said


def _fetch(source: str) -> tuple[epath.Path, list[epath.Path]]:
  """A network's weights and configs of the hub, in the user's cache."""
  try:
    import huggingface_hub
  except ImportError:
    raise errors.InputError(
      f"{source} needs huggingface_hub: pip install -e '.[pretrained]'"
    ) from None
  hub, _, name = source.partition(':')
  repository = _HUBS[hub] + name

  def fetch(file):
    return epath.Path(huggingface_hub.hf_hub_download(repository, file))

  lacking = (
    huggingface_hub.errors.EntryNotFoundError,
    huggingface_hub.errors.LocalEntryNotFoundError,
  )
  try:
    weights, configs = fetch(_WEIGHTS), []
    for file in _CONFIGS:
      with contextlib.suppress(*lacking):
        configs.append(fetch(file))
  except Exception as e:  # Of the network, the hub, the disk.
    reason = str(e).strip().partition('\n')[0].rstrip('.')
    reason = reason or type(e).__name__
    raise errors.InputError(
      f'{source} is not in the cache and cannot be fetched: {reason}. Where'
      f' there is a network, `hf download {repository} --include {_WEIGHTS}'
      " '*.json' --local-dir FOLDER`; then give"
      f' --config.pretrained=FOLDER/{_WEIGHTS}.'
    ) from e
  return weights, configs
