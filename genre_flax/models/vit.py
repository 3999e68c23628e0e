"""Vision transformers (Dosovitskiy et al., 2021, '... Worth 16x16 Words').

The options cover the published families: AugReg and DeiT (class token), DeiT
III (layer scale), CLIP (norm before the blocks, quick GELU), SigLIP (attention
pooling), DINOv2 (layer scale, register tokens).
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.models import normalization
from genre_flax.models import transformer


class Size(NamedTuple):
  """Width, depth and heads of a transformer."""

  width: int
  depth: int
  num_heads: int


SIZES = {
  'Ti': Size(192, 12, 3),
  'S': Size(384, 12, 6),
  'B': Size(768, 12, 12),
  'L': Size(1024, 24, 16),
}


class ViT(nn.Module):
  """Backbone: patch embedding, transformer blocks, pooling.

  The learned position embeddings belong to the grid of patches of one image
  size; `pretrained` resamples those of other sizes. The class and register
  tokens have no position embedding: a published one is added to the token.

  Attributes:
    size: a key of SIZES.
    patch: side of a patch, in pixels; divides the images' height and width.
    pool: 'token' (class token), 'mean' (of the patches) or 'attention' (of the
      patches, with a learned query).
    num_registers: additional tokens that are not pooled (Darcet et al., 2024).
    pre_norm: whether to normalize before the first block.
    gelu: 'exact', 'tanh' or 'quick'.
    layer_scale: initial scale of the residual branches; 0 for none.
    norm_epsilon: of all LayerNorms.
    stochastic_depth_rate: of the last block; the rate grows linearly from 0.
    rematerialize: whether to recompute the activations inside blocks in the
      backward pass (`jax.checkpoint`), which saves memory.
    axis_name: unused.
  """

  size: str = 'S'
  patch: int = 16
  pool: str = 'token'
  num_registers: int = 0
  pre_norm: bool = False
  gelu: str = 'exact'
  layer_scale: float = 0.0
  norm_epsilon: float = 1e-6
  stochastic_depth_rate: float = 0.0
  rematerialize: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  mixes_examples = False
  layer_order = (
    'backbone/(?:embed|position|tokens|pre_norm)',
    r'backbone/block_(\d+)',
    'backbone/(?:norm|pool)|head',
  )

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to embeddings [B, width]."""
    width, depth, num_heads = SIZES[self.size]
    sides, patch = images.shape[1:3], self.patch
    if any(side % patch for side in sides):
      nearest = [max(patch, round(side / patch) * patch) for side in sides]
      raise ValueError(
        f'vit: images of {sides[0]} x {sides[1]} pixels do not divide into'
        f' patches of {patch}; the nearest that do are {nearest[0]} x'
        f' {nearest[1]}'
      )
    norm = functools.partial(
      normalization.LayerNorm, self.norm_epsilon, dtype=self.dtype
    )
    x = layers.Patchify(width, self.patch, self.dtype, name='embed')(images)
    normal = nn.initializers.normal(0.02)
    grid = x.shape[1:]
    x = x + self.param('position', normal, grid).astype(x.dtype)
    x = x.reshape(x.shape[0], -1, width)
    num_tokens = self.num_registers + (self.pool == 'token')
    if num_tokens:
      tokens = self.param('tokens', normal, (num_tokens, width))
      tokens = jnp.broadcast_to(
        tokens.astype(x.dtype), (x.shape[0], num_tokens, width)
      )
      x = jnp.concatenate([tokens, x], axis=1)
    if self.pre_norm:
      x = norm(name='pre_norm')(x)
    block_class = transformer.Block
    if self.rematerialize:
      block_class = nn.remat(block_class, static_argnums=(2,))
    for number in range(depth):
      if number == depth - 1:
        # Not after the last block: a class token reads the patches only by the
        # attention of the last block.
        x = self._feature_map(x, num_tokens, grid)
      x = block_class(
        num_heads=num_heads,
        gelu=self.gelu,
        norm_epsilon=self.norm_epsilon,
        layer_scale=self.layer_scale,
        drop_rate=self.stochastic_depth_rate * number / max(1, depth - 1),
        dtype=self.dtype,
        name=f'block_{number:02d}',
      )(x, train)
    x = norm(name='norm')(x)
    if self.pool == 'token':
      return x[:, 0].astype(jnp.float32)
    patches = x[:, num_tokens:]
    if self.pool == 'mean':
      return patches.mean(axis=1, dtype=jnp.float32)
    return transformer.AttentionPool(
      num_heads, self.gelu, self.norm_epsilon, self.dtype, name='pool'
    )(patches).astype(jnp.float32)

  def _feature_map(self, x, num_tokens, grid):
    patches = x[:, num_tokens:].reshape(x.shape[0], *grid)
    patches = layers.feature_map(self, patches)
    patches = patches.reshape(x.shape[0], -1, grid[-1])
    return jnp.concatenate([x[:, :num_tokens], patches], axis=1)
