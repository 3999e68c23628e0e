"""A small residual network for training from scratch."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.models import normalization


class ResNet(nn.Module):
  """Basic residual blocks (He et al., 2016, 'Deep Residual Learning').

  The stem consists of two strided convolutions. The first block of every stage
  but the first halves height and width. BatchNorm uses the global batch.

  Attributes:
    num_genres: number of logits.
    features: channels of each stage.
    num_blocks: residual blocks of each stage.
    dropout_rate: before the logits.
    axis_name: mapped axis over which BatchNorm averages.
  """

  num_genres: int
  features: tuple[int, ...] = (32, 64, 128, 256)
  num_blocks: tuple[int, ...] = (1, 1, 1, 1)
  dropout_rate: float = 0.2
  dtype: Any = jnp.float32
  axis_name: str | None = None

  mixes_examples = True
  layer_order = (r'(?:Conv|BatchNorm)_(\d+)', 'head')

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to logits [B, num_genres]."""
    conv_norm = functools.partial(
      normalization.ConvNorm,
      use_running_average=not train,
      axis_name=self.axis_name,
      dtype=self.dtype,
    )
    x = images
    for _ in range(2):
      x = conv_norm(self.features[0], 3, stride=2, activation='relu')(x)
    for stage, (features, num_blocks) in enumerate(
      zip(self.features, self.num_blocks, strict=True)
    ):
      for block in range(num_blocks):
        stride = 2 if stage > 0 and block == 0 else 1
        residual = x
        x = conv_norm(features, 3, stride=stride, activation='relu')(x)
        # A block starts as the identity (Goyal et al., 2017, section 5.1).
        x = conv_norm(features, 3, scale_init=nn.initializers.zeros)(x)
        if residual.shape != x.shape:
          residual = conv_norm(features, 1, stride=stride)(residual)
        x = nn.relu(x + residual)
    x = layers.feature_map(self, x)
    x = jnp.mean(x, axis=(1, 2))
    x = layers.Dropout(self.dropout_rate)(x, deterministic=not train)
    head = layers.Dense(self.num_genres, self.dtype, name='head')
    return head(x).astype(jnp.float32)
