"""Sources of published weights: pip packages, the Hugging Face hub, files."""

from collections.abc import Sequence
import contextlib
import dataclasses
import json
from typing import Any, NamedTuple

from absl import logging
from etils import epath
import numpy as np

from genre_flax import config_validation
from genre_flax.pretrained import efficientnet_lite_weights
from genre_flax.pretrained import transformers_names
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

# Prefixes of repositories on the hub, by prefix of a source.
_REPOSITORIES = {'timm:': 'timm/', 'hf:': ''}
_WEIGHTS = 'model.safetensors'
# timm and transformers store the pixel statistics in these.
_CONFIGS = ('config.json', 'preprocessor_config.json')
# Of DataParallel, compiled networks, Lightning, and networks with a head.
_WRAPPERS = ('module.', '_orig_mod.', 'model.', 'backbone.')
_MAX_CONFIG_BYTES = 1 << 24


class Pixels(NamedTuple):
  """Mean and standard deviation per color, of pixels in [0, 1]."""

  mean: tuple[float, float, float]
  std: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
  """Weights of a source, and the input they were trained with.

  Attributes:
    arrays: float32, by timm's names.
    extra_keys: names of arrays in the file that the network does not use.
    pixels: normalization of the input; None if unknown.
    image_shape: (height, width) of the input, in pixels; None if unknown.
    architecture: timm's name of the network; None if unknown.
  """

  arrays: dict[str, np.ndarray]
  extra_keys: Sequence[str] = ()
  pixels: Pixels | None = None
  image_shape: tuple[int, int] | None = None
  architecture: str | None = None


def read(source: str) -> PublishedWeights:
  """Reads published weights.

  Args:
    source: a key of `config_validation.PIP_WEIGHTS`; 'timm:NAME' or
      'hf:OWNER/NAME' of a network on the Hugging Face hub, which is downloaded
      once to the user's cache; or the path of a safetensors file with timm's or
      transformers' names, next to its config.json or preprocessor_config.json.

  Raises:
    InputError: the weights are not available or damaged.
  """
  if source in config_validation.PIP_WEIGHTS:
    arrays = efficientnet_lite_weights.read(source)
    mean, std = efficientnet_lite_weights.MEAN, efficientnet_lite_weights.STD
    return PublishedWeights(arrays, pixels=Pixels(mean, std))
  if source.startswith(tuple(_REPOSITORIES)):
    path, configs = _download(source)
  else:
    path = epath.Path(source).expanduser()
    configs = [path.parent / name for name in _CONFIGS]
  arrays, extra_keys = _unwrap(weight_files.read_safetensors(path)), []
  metadata = _read_metadata(configs)
  if transformers_names.matches(arrays):
    try:
      arrays, extra_keys = transformers_names.to_timm(arrays)
    except (ValueError, IndexError, TypeError) as e:
      raise errors.InputError(
        f"{source} has transformers' names, but arrays of other shapes: {e}"
      ) from e
  return PublishedWeights(arrays, extra_keys, **metadata)


def _unwrap(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The arrays of a wrapped network, without the prefixes of the wrappers."""
  for prefix in _WRAPPERS:
    names = [name for name in arrays if name.startswith(prefix)]
    if len(names) > len(arrays) / 2:
      logging.info(
        'Read %d of %d arrays, %s*.', len(names), len(arrays), prefix
      )
      return _unwrap({n.removeprefix(prefix): arrays[n] for n in names})
  return arrays


def _read_metadata(paths: Sequence[epath.Path]) -> dict[str, Any]:
  """Attributes of PublishedWeights in config files; the first file wins."""
  found, faults = {}, []
  for path in paths:
    try:
      content = regular_files.read(path, max_bytes=_MAX_CONFIG_BYTES)
      metadata = _parse_config(json.loads(content))
    except Exception as e:  # The type depends on the content.
      faults.append(f'{path} cannot be read: {e}')
    else:
      found = {**metadata, **found}
      if 'pixels' not in metadata:
        faults.append(f'{path} has no mean and std of three colors')
  if 'pixels' not in found:
    logging.warning(
      'The pixel normalization of the weights is unknown (%s);'
      ' config.pixel_mean and config.pixel_scale are assumed to match it.',
      '; '.join(faults) or 'they come without a config file',
    )
  return found


def _parse_config(config: dict[str, Any]) -> dict[str, Any]:
  """Attributes of PublishedWeights in a config of timm or transformers."""
  metadata = {}
  if isinstance(config.get('architecture'), str):
    metadata['architecture'] = config['architecture']
  config = config.get('pretrained_cfg', config)
  mean, std = (
    tuple(float(v) for v in config.get(key, config.get(f'image_{key}', ())))
    for key in ('mean', 'std')
  )
  if len(mean) == len(std) == 3 and min(std) > 0:
    if not np.isfinite([mean, std]).all():
      raise ValueError(f'mean {mean} or std {std} is not finite')
    metadata['pixels'] = Pixels(mean, std)
  size = config.get('input_size')
  if isinstance(size, list) and len(size) == 3:
    metadata['image_shape'] = int(size[1]), int(size[2])
  return metadata


def _download(source: str) -> tuple[epath.Path, list[epath.Path]]:
  """Paths of a hub network's weights and configs in the user's cache."""
  try:
    import huggingface_hub
  except ImportError:
    raise errors.InputError(
      f"{source} needs huggingface_hub: pip install -e '.[pretrained]'"
    ) from None
  hub, colon, name = source.partition(':')
  repository = _REPOSITORIES[hub + colon] + name

  def download(file):
    return epath.Path(huggingface_hub.hf_hub_download(repository, file))

  missing = (
    huggingface_hub.errors.EntryNotFoundError,
    huggingface_hub.errors.LocalEntryNotFoundError,
  )
  try:
    path, configs = download(_WEIGHTS), []
    for file in _CONFIGS:
      with contextlib.suppress(*missing):
        configs.append(download(file))
  except Exception as e:  # Errors of the network, the hub and the disk.
    reason = str(e).strip().partition('\n')[0].rstrip('.')
    raise errors.InputError(
      f'{source} is not in the cache and cannot be downloaded:'
      f' {reason or type(e).__name__}. On a machine with network access, run'
      f" `hf download {repository} --include {_WEIGHTS} '*.json' --local-dir"
      f' FOLDER`; then set --config.pretrained=FOLDER/{_WEIGHTS}.'
    ) from e
  return path, configs
