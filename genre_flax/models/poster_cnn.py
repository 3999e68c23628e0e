"""The network of the original poster classifier."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers


class PosterCNN(nn.Module):
  """Convolutions with max-pooling and dropout, then dense layers.

  The defaults give the network of the original classifier, with the same number
  of parameters: for 25 genres, 1,169,017 at 250 x 250 pixels and 3,790,457 at
  400 x 400.

  Attributes:
    num_genres: number of logits.
    features: channels of each convolution.
    dense_features: widths of the dense layers before the logits.
    kernel_size: side of the kernels, in pixels.
    conv_dropout_rate: after each pooling.
    dense_dropout_rate: after each dense layer.
    axis_name: unused.
  """

  num_genres: int
  features: tuple[int, ...] = (16, 32, 64, 64)
  dense_features: tuple[int, ...] = (128, 64)
  kernel_size: int = 5
  conv_dropout_rate: float = 0.25
  dense_dropout_rate: float = 0.5
  dtype: Any = jnp.float32
  axis_name: str | None = None

  mixes_examples = False
  layer_order = (r'ConvMaxPool_(\d+)', r'Dense_(\d+)', 'head')

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to logits [B, num_genres]."""
    dense = functools.partial(
      layers.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.glorot_uniform(),
    )
    x = images
    for features in self.features:
      if min(x.shape[1:3]) < self.kernel_size + 1:
        raise ValueError(
          f'poster_cnn: images of {images.shape[1]} x {images.shape[2]} pixels'
          f' are too small for {len(self.features)} convolutions of'
          f' {self.kernel_size} x {self.kernel_size} with pooling; increase'
          ' config.image_size or shorten config.model.poster_cnn.features'
        )
      x = layers.ConvMaxPool(features, self.kernel_size, self.dtype)(x)
      x = layers.Dropout(self.conv_dropout_rate)(x, deterministic=not train)
    x = layers.feature_map(self, x)
    x = x.reshape(x.shape[0], -1)
    for features in self.dense_features:
      x = nn.relu(dense(features)(x))
      x = layers.Dropout(self.dense_dropout_rate)(x, deterministic=not train)
    return dense(self.num_genres, name='head')(x).astype(jnp.float32)
