"""The networks, by name.

Every network is a Flax module that takes normalised images [B, H, W, 3] and
`train`, and returns logits [B, num_genres] in float32. Its last layer is called
'head'. Networks with BatchNorm keep its statistics in 'batch_stats', and say by
`mixes_examples` whether an example's logits in training depend on the others'.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from genre_flax.models import efficientnet_lite
from genre_flax.models import poster_cnn
from genre_flax.models import resnet
from genre_flax.models import tiny

MODELS: dict[str, type[nn.Module]] = {
  'efficientnet_lite': efficientnet_lite.EfficientNetLite,
  'poster_cnn': poster_cnn.PosterCNN,
  'resnet': resnet.ResNet,
  'tiny': tiny.Tiny,
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
  """
  return create_model(
    config['name'],
    num_genres=num_genres,
    dtype=config['dtype'],
    options=config[config['name']],
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
    name: a key of MODELS.
    num_genres: number of logits.
    dtype: of the computation, a key of DTYPES.
    options: further attributes of the network.
    axis_name: the mapped axis that BatchNorm averages its statistics over.

  Returns:
    The Flax module.
  """
  options = {
    key: tuple(value) if isinstance(value, list) else value
    for key, value in (options or {}).items()
  }
  return MODELS[name](
    num_genres=num_genres, dtype=DTYPES[dtype], axis_name=axis_name, **options
  )
