"""The networks, by name.

Every network is a Flax module that takes normalised images [B, H, W, 3] and
`train`, and returns logits [B, num_genres] in float32. Its last layer is called
'head', and its last feature map is marked by `layers.feature_map`, for those
who ask where it looked. Networks with BatchNorm keep its statistics in
'batch_stats', and say by `mixes_examples` whether an example's logits in
training depend on the others'. One of a user's own, by the name
'module:attribute', keeps the same contract; it need not mark a feature map.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import params as params_lib
from genre_flax.models import poster_cnn
from genre_flax.models import resnet
from genre_flax.models import tiny
from genre_flax.models import vit
from genre_flax.runtime import custom
from genre_flax.runtime import errors

MODELS: dict[str, type[nn.Module]] = {
  'convnext': convnext.ConvNeXt,
  'efficientnet_lite': efficientnet_lite.EfficientNetLite,
  'poster_cnn': poster_cnn.PosterCNN,
  'resnet': resnet.ResNet,
  'tiny': tiny.Tiny,
  'vit': vit.ViT,
}
DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def create_from_config(
  config: Mapping[str, Any], *, num_genres: int, axis_name: str | None = None
) -> nn.Module:
  """Makes the network of a config.

  Args:
    config: `config.model`.
    num_genres: number of logits.
    axis_name: the mapped axis that BatchNorm averages its statistics over.

  Returns:
    The Flax module.

  Raises:
    InputError: a network of one's own is not there, or is no such network.
  """
  name = config['name']
  is_custom = custom.is_custom(name)
  return create_model(
    name,
    num_genres=num_genres,
    dtype=config['dtype'],
    options=config['options' if is_custom else name],
    axis_name=axis_name,
  )


def create_model(
  name: str,
  *,
  num_genres: int,
  dtype: str = 'float32',
  options: Mapping[str, Any] | None = None,
  axis_name: str | None = None,
) -> nn.Module:
  """Makes a network.

  Args:
    name: a key of MODELS, or 'module:attribute'.
    num_genres: number of logits.
    dtype: of the computation, a key of DTYPES.
    options: further attributes of the network.
    axis_name: the mapped axis that BatchNorm averages its statistics over.

  Returns:
    The Flax module.

  Raises:
    InputError: a network of one's own is not there, or is no such network.
  """
  options = {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in (options or {}).items()
  }
  arguments = {
    'num_genres': num_genres,
    'dtype': DTYPES[dtype],
    'axis_name': axis_name,
  }
  if not custom.is_custom(name):
    return MODELS[name](**arguments, **options)
  model = custom.call(name, key='model.name', options=options, **arguments)
  if not isinstance(model, nn.Module):
    raise errors.InputError(
      f'config.model.name={name!r} gave a {type(model).__name__}; expected a'
      ' flax.linen.Module.'
    )
  if not isinstance(getattr(model, 'mixes_examples', None), bool):
    raise errors.InputError(
      f'config.model.name={name!r} does not say whether its logits of an'
      ' example in training depend on the others, as BatchNorm makes them; give'
      ' it `mixes_examples = False`, or True.'
    )
  return model


def check_output(
  model: nn.Module, *, name: str, image_shape: tuple[int, int], num_genres: int
) -> None:
  """Applies a network to shapes alone, and checks what comes out.

  Args:
    model: of `create_model`.
    name: of it, for messages.
    image_shape: (height, width) in pixels.
    num_genres: number of logits.

  Raises:
    InputError: it is a network of one's own, and does not keep the contract.
  """
  if not custom.is_custom(name):
    return
  images = jax.ShapeDtypeStruct((2, *image_shape, 3), jnp.float32)

  def apply(images):
    logits, variables = model.init_with_output(
      jax.random.key(0), images, train=False
    )
    return logits, variables['params']

  try:
    logits, params = jax.eval_shape(apply, images)
  except (AttributeError, TypeError, ValueError) as e:
    raise errors.InputError(
      f'config.model.name={name!r} cannot be applied to images'
      f' {images.shape} with train=False: {e}'
    ) from e
  expected = ((2, num_genres), jnp.dtype(jnp.float32))
  got = (getattr(logits, 'shape', None), getattr(logits, 'dtype', None))
  if got != expected:
    raise errors.InputError(
      f'config.model.name={name!r} returns {got[1]} {got[0]} for two images;'
      f' expected logits, float32 {expected[0]}.'
    )
  if params_lib.HEAD not in params:
    raise errors.InputError(
      f'config.model.name={name!r} has no layer called {params_lib.HEAD!r}; its'
      f' layers are {", ".join(params)}. The last one, which gives the logits,'
      " is to be nn.Dense(num_genres, name='head')."
    )
