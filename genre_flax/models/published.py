"""Weights that others published: a file, or a name on a model hub.

Files are of safetensors or NumPy's .npz; no reader of them runs code. Whatever
names their authors gave, from here on they are timm's.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import io
import json
import re
from typing import Any
import zipfile
import zlib

from absl import logging
from etils import epath
import ml_dtypes
import numpy as np

from genre_flax.models import big_vision_names
from genre_flax.models import transformers_names
from genre_flax.runtime import errors

# What stands before a name on the hub, and who owns the repositories meant.
_HUBS = {'timm': 'timm/', 'hf': ''}
_NAME = re.compile(rf'({"|".join(_HUBS)}):.')
_SAFETENSORS, _NPZ = '.safetensors', '.npz'
FILES = (_SAFETENSORS, _NPZ)
_WEIGHTS = 'model.safetensors'
# Those that say what the pixels were: timm's, and transformers'.
_CONFIGS = ('config.json', 'preprocessor_config.json')
_MAX_BYTES = 1 << 34


@dataclasses.dataclass(frozen=True)
class Published:
  """Weights, as they were published.

  Attributes:
    arrays: float32, by timm's names; of a network that timm has not, by those
      of their authors.
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
  """Whether `read` takes it: a name on the hub, or the path of a file."""
  return _NAME.match(source) is not None or source.endswith(FILES)


def read(source: str) -> Published:
  """Reads published weights.

  Args:
    source: 'timm:NAME' of a network of timm's, or 'hf:OWNER/NAME' of any, on
      the Hugging Face hub, fetched once and kept in the user's cache; or the
      path of a file of safetensors or an .npz of vit_jax or big_vision. What
      the pixels were is read from the config.json or preprocessor_config.json
      beside it, which the hub has too.

  Raises:
    InputError: they cannot be had, or are no such file.
  """
  if _NAME.match(source):
    weights, configs = _fetch(source)
  else:
    weights = epath.Path(source).expanduser()
    configs = [weights.parent / name for name in _CONFIGS]
  arrays = read_arrays(weights)
  if big_vision_names.are_theirs(arrays):
    arrays = _as_timm(arrays, big_vision_names.to_timm, source)
    mean, std = big_vision_names.MEAN, big_vision_names.STD
  else:
    if transformers_names.are_theirs(arrays):
      arrays = _as_timm(arrays, transformers_names.to_timm, source)
    mean, std = _read_pixels(configs)
  arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
  return Published(arrays, mean, std, origin=source)


def _as_timm(arrays, to_timm, source):
  try:
    return to_timm(arrays)
  except (ValueError, IndexError, TypeError) as e:  # Of shapes.
    raise errors.InputError(
      f'{source} has the names of a network, and not its shapes: {e}'
    ) from e


def read_arrays(path: epath.Path) -> dict[str, np.ndarray]:
  """The arrays of a file, by the names that it has.

  Args:
    path: of safetensors, or of an .npz.

  Raises:
    InputError: it cannot be read.
  """
  return _read_npz(path) if path.suffix == _NPZ else _read_safetensors(path)


def _read_safetensors(path: epath.Path) -> dict[str, np.ndarray]:
  try:
    from safetensors import numpy as safetensors
  except ImportError:
    raise errors.InputError(
      f"{path} needs safetensors: pip install -e '.[pretrained]'"
    ) from None
  stored = _read_bytes(path)
  try:
    return safetensors.load(stored)
  except Exception as e:  # It has several classes, of its own and KeyError.
    raise errors.InputError(
      f'{path} is no file of safetensors that can be read: {e}'
    ) from e


def _read_npz(path: epath.Path) -> dict[str, np.ndarray]:
  stored = io.BytesIO(_read_bytes(path))
  try:
    with zipfile.ZipFile(stored) as archive:
      size = sum(entry.file_size for entry in archive.infolist())
    if size > _MAX_BYTES:
      raise ValueError(f'it would take {size} bytes, more than {_MAX_BYTES}')
    with np.load(stored, allow_pickle=False) as arrays:
      return {name: _as_bfloat16(arrays[name]) for name in arrays.files}
  except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
    raise errors.InputError(f'{path} is no .npz that can be read: {e}') from e


def _as_bfloat16(array: np.ndarray) -> np.ndarray:
  """Two bytes without a type, as NumPy stores it, are bfloat16."""
  return array.view(ml_dtypes.bfloat16) if array.dtype == 'V2' else array


def _read_bytes(path: epath.Path) -> bytes:
  try:
    return path.read_bytes()
  except FileNotFoundError:
    raise errors.InputError(f'There is no file of weights {path}.') from None
  except OSError as e:
    raise errors.InputError(f'{path} cannot be read: {e}') from e


def _read_pixels(paths: Sequence[epath.Path]) -> tuple[Any, Any]:
  """(mean, std) of the first file that says them; None each where none does."""
  reasons = []
  for path in paths:
    try:
      stored = json.loads(path.read_bytes())
      stored = stored.get('pretrained_cfg', stored)
      mean, std = (
        tuple(float(v) for v in stored.get(key, stored.get(f'image_{key}', ())))
        for key in ('mean', 'std')
      )
      if len(mean) == len(std) == 3 and min(std) > 0:
        return mean, std
      reasons.append(f'{path} has a mean of {mean} and a std of {std}')
    except FileNotFoundError:
      reasons.append(f'there is no {path}')
    except (OSError, ValueError, TypeError, AttributeError) as e:
      reasons.append(f'{path} cannot be read: {e}')
  logging.warning(
    'Nothing says what pixels the weights were trained with: %s.'
    ' config.pixel_mean and config.pixel_scale are taken to be so.',
    '; '.join(reasons),
  )
  return None, None


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
