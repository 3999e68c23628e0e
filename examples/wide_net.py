"""A custom network: wide 3 x 3 convolutions and the mean over pixels."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class WideNet(nn.Module):
  """Maps images [B, H, W, 3] to logits [B, num_genres]."""

  num_genres: int
  dtype: Any
  axis_name: str | None
  width: int = 32
  mixes_examples = False

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images to logits."""
    x = images
    for factor in (1, 2, 4):
      x = nn.Conv(factor * self.width, (3, 3), 2, dtype=self.dtype)(x)
      x = nn.relu(x)
    logits = nn.Dense(self.num_genres, name='head')(x.mean(axis=(1, 2)))
    return logits.astype(jnp.float32)
