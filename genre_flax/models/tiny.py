"""A network that trains on a laptop CPU in a minute."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers


class Tiny(nn.Module):
  """3 x 3 convolutions with max-pooling, then global mean and maximum.

  The maximum over the pixels detects a motif at any position; the mean
  describes the colors of the whole poster.

  Attributes:
    num_genres: number of logits.
    features: channels of each convolution.
    dropout_rate: before the logits.
    axis_name: unused.
  """

  num_genres: int
  features: tuple[int, ...] = (16, 32, 64)
  dropout_rate: float = 0.1
  dtype: Any = jnp.float32
  axis_name: str | None = None

  mixes_examples = False
  layer_order = (r'ConvMaxPool_(\d+)', 'head')

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to logits [B, num_genres]."""
    x = images
    for features in self.features:
      x = layers.ConvMaxPool(features, kernel_size=3, dtype=self.dtype)(x)
    x = layers.feature_map(self, x)
    x = jnp.concatenate([x.mean(axis=(1, 2)), x.max(axis=(1, 2))], axis=-1)
    x = layers.Dropout(self.dropout_rate)(x, deterministic=not train)
    head = layers.Dense(self.num_genres, self.dtype, name='head')
    return head(x).astype(jnp.float32)
