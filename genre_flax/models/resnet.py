"""A small residual network, to train from scratch."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import batch_norm
from genre_flax.models import dropout
from genre_flax.models import layers


class ResNet(nn.Module):
  """Basic residual blocks (He et al., 2016, 'Deep Residual Learning').

  Two strided convolutions lead in; the first block of every stage but the first
  halves height and width. BatchNorm's statistics are those of the global batch.

  Attributes:
    num_genres: number of logits.
    features: channels of each stage.
    num_blocks: residual blocks of each stage.
    dropout_rate: before the logits.
    dtype: of the computation; parameters and logits are float32.
    axis_name: the mapped axis that BatchNorm averages over.
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
    """Maps normalised images [B, H, W, 3] to logits [B, num_genres]."""
    norm = functools.partial(
      batch_norm.BatchNorm,
      use_batch_statistics=train,
      axis_name=self.axis_name,
      dtype=self.dtype,
    )
    x = images
    for _ in range(2):
      conv = layers.Conv(self.features[0], 3, stride=2, dtype=self.dtype)
      x = batch_norm.normalized(conv, norm(), x, activation='relu')
    for stage, (features, blocks) in enumerate(
      zip(self.features, self.num_blocks, strict=True)
    ):
      for block in range(blocks):
        stride = 2 if stage > 0 and block == 0 else 1
        x = self._block(x, features, stride, norm)
    x = layers.feature_map(self, x)
    x = jnp.mean(x, axis=(1, 2))
    x = dropout.Dropout(self.dropout_rate)(x, deterministic=not train)
    logits = layers.Dense(self.num_genres, dtype=self.dtype, name='head')(x)
    return logits.astype(jnp.float32)

  def _block(self, x, features, stride, norm):
    residual = x
    conv = functools.partial(layers.Conv, features, dtype=self.dtype)
    x = batch_norm.normalized(
      conv(3, stride=stride), norm(), x, activation='relu'
    )
    # A block starts as the identity (Goyal et al., 2017, section 5.1).
    x = batch_norm.normalized(
      conv(3), norm(scale_init=nn.initializers.zeros), x
    )
    if residual.shape != x.shape:
      residual = batch_norm.normalized(conv(1, stride=stride), norm(), residual)
    return nn.relu(x + residual)
