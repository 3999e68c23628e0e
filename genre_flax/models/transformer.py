"""Blocks of vision transformers: attention, MLP, attention pooling.

Attributes that are not documented here are those of `vit.ViT`.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.models import normalization
from genre_flax.ops import ops

_Dense = functools.partial(
  layers.Dense, kernel_init=nn.initializers.xavier_uniform()
)

GELUS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'exact': functools.partial(nn.gelu, approximate=False),
  'tanh': functools.partial(nn.gelu, approximate=True),
  'quick': lambda x: x * nn.sigmoid(1.702 * x),  # That of CLIP.
}


class MLP(nn.Module):
  """Two dense layers.

  Attributes:
    hidden: width between the layers.
  """

  hidden: int
  gelu: str
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., C] to [..., C]."""
    width = x.shape[-1]
    x = _Dense(self.hidden, self.dtype, name='expand')(x)
    return _Dense(width, self.dtype, name='project')(GELUS[self.gelu](x))


class SelfAttention(nn.Module):
  """Multi-head self-attention (Vaswani et al., 2017, section 3.2)."""

  num_heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, N, C] to [B, N, C]."""
    width = x.shape[-1]
    # One matrix product for queries, keys and values of all heads.
    qkv = _Dense(3 * width, self.dtype, name='qkv')(x)
    x = ops.dot_product_attention(*_split(qkv, width, self.num_heads))
    x = x.reshape(*x.shape[:2], width)
    return _Dense(width, self.dtype, name='out')(x)


def _split(x: jax.Array, width: int, num_heads: int) -> list[jax.Array]:
  """Splits [B, N, n * width] into n arrays [B, N, heads, width / heads]."""
  # Not in one reshape, since a TPU copies arrays of five axes.
  starts = range(0, x.shape[-1], width)
  parts = [x[..., start : start + width] for start in starts]
  return [part.reshape(*x.shape[:2], num_heads, -1) for part in parts]


class AttentionPool(nn.Module):
  """Attention with a learned query, then an MLP (Zhai et al., 2022, MAP)."""

  num_heads: int
  gelu: str
  norm_epsilon: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, N, C] to [B, C]."""
    batch, _, width = x.shape
    dense = functools.partial(_Dense, dtype=self.dtype)
    probe = self.param('probe', nn.initializers.xavier_uniform(), (1, width))
    size = (self.num_heads, width // self.num_heads)
    query = dense(width, name='q')(probe.astype(self.dtype))
    kv = dense(2 * width, name='kv')(x)
    pooled = ops.dot_product_attention(
      jnp.broadcast_to(query.reshape(1, 1, *size), (batch, 1, *size)),
      *_split(kv, width, self.num_heads),
    ).reshape(batch, width)
    pooled = dense(width, name='out')(pooled)
    norm = normalization.LayerNorm(self.norm_epsilon, self.dtype, name='norm')
    mlp = MLP(4 * width, self.gelu, self.dtype, name='mlp')
    return pooled + mlp(norm(pooled))


class Block(nn.Module):
  """A pre-norm transformer block (Dosovitskiy et al., 2021).

  Attributes:
    drop_rate: stochastic depth of each branch.
  """

  num_heads: int
  gelu: str
  norm_epsilon: float
  layer_scale: float
  drop_rate: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, N, C] to [B, N, C]."""
    norm = functools.partial(
      normalization.LayerNorm, self.norm_epsilon, dtype=self.dtype
    )
    attention = SelfAttention(self.num_heads, self.dtype, name='attention')
    x = x + self._branch(
      attention(norm(name='attention_norm')(x)), 'attention_scale', train
    )
    mlp = MLP(4 * x.shape[-1], self.gelu, self.dtype, name='mlp')
    return x + self._branch(mlp(norm(name='mlp_norm')(x)), 'mlp_scale', train)

  def _branch(self, x, name, train):
    if self.layer_scale:
      x = layers.LayerScale(self.layer_scale, self.dtype, name=name)(x)
    return layers.StochasticDepth(self.drop_rate)(x, deterministic=not train)
