"""Blocks of vision transformers: attention, MLP, attention pooling."""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.models import normalization
from genre_flax.ops import ops


def quick_gelu(x: jax.Array) -> jax.Array:
  """The GELU of CLIP: x sigmoid(1.702 x)."""
  return x * nn.sigmoid(1.702 * x)


GELUS: dict[str, Callable[[jax.Array], jax.Array]] = {
  'exact': functools.partial(nn.gelu, approximate=False),
  'tanh': functools.partial(nn.gelu, approximate=True),
  'quick': quick_gelu,
}


class MLP(nn.Module):
  """Two dense layers.

  Attributes:
    hidden: width between the layers.
    gelu: a key of GELUS.
    dtype: of the computation; parameters are float32.
  """

  hidden: int
  gelu: str
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [..., C] to [..., C]."""
    dense = functools.partial(
      layers.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
    )
    width = x.shape[-1]
    x = GELUS[self.gelu](dense(self.hidden, name='expand')(x))
    return dense(width, name='project')(x)


class SelfAttention(nn.Module):
  """Multi-head self-attention (Vaswani et al., 2017, section 3.2).

  Attributes:
    num_heads: divides the width.
    dtype: of the computation; parameters are float32.
  """

  num_heads: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, N, C] to [B, N, C]."""
    width = x.shape[-1]
    dense = functools.partial(
      layers.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
    )
    # One matrix product for queries, keys and values of all heads. They are
    # split before the heads are, since a TPU copies arrays of five axes.
    qkv = dense(3 * width, name='qkv')(x)
    x = ops.dot_product_attention(
      *(_split_heads(part, self.num_heads) for part in _split(qkv, width))
    ).reshape(x.shape)
    return dense(width, name='out')(x)


def _split(x: jax.Array, width: int) -> list[jax.Array]:
  """Splits [..., n * width] into n arrays [..., width]."""
  starts = range(0, x.shape[-1], width)
  return [x[..., start : start + width] for start in starts]


def _split_heads(x: jax.Array, num_heads: int) -> jax.Array:
  """Reshapes [B, N, C] to [B, N, heads, C / heads]."""
  return x.reshape(*x.shape[:2], num_heads, -1)


class AttentionPool(nn.Module):
  """Attention with a learned query, then an MLP (Zhai et al., 2022, MAP).

  Attributes:
    num_heads: of the attention.
    gelu: of the MLP, a key of GELUS.
    norm_epsilon: of the LayerNorm.
    dtype: of the computation; parameters are float32.
  """

  num_heads: int
  gelu: str
  norm_epsilon: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, N, C] to [B, C]."""
    batch, _, width = x.shape
    dense = functools.partial(
      layers.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
    )
    probe = self.param('probe', nn.initializers.xavier_uniform(), (1, width))
    size = (self.num_heads, width // self.num_heads)
    query = dense(width, name='q')(probe.astype(self.dtype)).reshape(
      1, 1, *size
    )
    kv = dense(2 * width, name='kv')(x)
    pooled = ops.dot_product_attention(
      jnp.broadcast_to(query, (batch, 1, *size)),
      *(_split_heads(part, self.num_heads) for part in _split(kv, width)),
    ).reshape(batch, width)
    pooled = dense(width, name='out')(pooled)
    normed = normalization.LayerNorm(
      self.norm_epsilon, dtype=self.dtype, name='norm'
    )(pooled)
    mlp = MLP(4 * width, self.gelu, self.dtype, name='mlp')
    return pooled + mlp(normed)


class Block(nn.Module):
  """A pre-norm transformer block (Dosovitskiy et al., 2021).

  Attributes:
    num_heads: of the attention.
    gelu: of the MLP, a key of GELUS.
    norm_epsilon: of the LayerNorms.
    layer_scale: initial scale of each branch, see LayerScale; 0 for none.
    drop_rate: stochastic depth of each branch.
    dtype: of the computation; parameters are float32.
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
