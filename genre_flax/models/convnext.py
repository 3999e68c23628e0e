"""ConvNeXt (Liu et al., 2022, 'A ConvNet for the 2020s'), versions 1 and 2.

Version 2 (Woo et al., 2023, 'ConvNeXt V2') replaces the layer scale of each
block by global response normalization.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.models import normalization


class Size(NamedTuple):
  """Blocks and channels of the four stages."""

  depths: tuple[int, ...]
  widths: tuple[int, ...]


SIZES = {
  'atto': Size((2, 2, 6, 2), (40, 80, 160, 320)),
  'femto': Size((2, 2, 6, 2), (48, 96, 192, 384)),
  'pico': Size((2, 2, 6, 2), (64, 128, 256, 512)),
  'nano': Size((2, 2, 8, 2), (80, 160, 320, 640)),
  'tiny': Size((3, 3, 9, 3), (96, 192, 384, 768)),
  'small': Size((3, 3, 27, 3), (96, 192, 384, 768)),
  'base': Size((3, 3, 27, 3), (128, 256, 512, 1024)),
  'large': Size((3, 3, 27, 3), (192, 384, 768, 1536)),
}
_NORM_EPSILON = 1e-6
# Side of the patches of the stem, in pixels.
STEM = 4


class ResponseNorm(nn.Module):
  """Global response normalization (Woo et al., 2023, equations 1 to 3)."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H, W, C]."""
    scale = self.param('scale', nn.initializers.zeros, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    squares = jnp.sum(
      jnp.square(x.astype(jnp.float32)), axis=(1, 2), keepdims=True
    )
    # The square root has no gradient at 0, the norm of an all-zero channel.
    is_zero = squares == 0
    norms = jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squares)))
    share = norms / (norms.mean(axis=-1, keepdims=True) + 1e-6)
    return x + (x * share * scale + bias).astype(x.dtype)


class Block(nn.Module):
  """A 7 x 7 depthwise convolution and an MLP over the channels.

  Attributes:
    version: 1 or 2.
    layer_scale: initial scale of the branch, in version 1.
    drop_rate: stochastic depth of the branch.
  """

  version: int
  layer_scale: float
  drop_rate: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, H, W, C] to [B, H, W, C]."""
    inputs, width = x, x.shape[-1]
    normal = nn.initializers.truncated_normal(0.02)
    dense = functools.partial(
      layers.Dense, dtype=self.dtype, kernel_init=normal
    )
    bias = self.param('depthwise_bias', nn.initializers.zeros, (width,))
    x = layers.Conv(width, 7, 1, width, self.dtype, name='depthwise')(
      x, bias=bias
    )
    x = normalization.LayerNorm(_NORM_EPSILON, self.dtype, name='norm')(x)
    x = nn.gelu(dense(4 * width, name='expand')(x), approximate=False)
    if self.version == 2:
      x = ResponseNorm(name='response_norm')(x)
    x = dense(width, name='project')(x)
    if self.version == 1:
      x = layers.LayerScale(self.layer_scale, self.dtype, name='scale')(x)
    x = layers.StochasticDepth(self.drop_rate)(x, deterministic=not train)
    return inputs + x


class ConvNeXt(nn.Module):
  """Backbone: stem, four stages, mean over the pixels, LayerNorm.

  Attributes:
    size: a key of SIZES.
    version: 1 or 2.
    layer_scale: initial scale of the residual branches, in version 1.
    stochastic_depth_rate: of the last block; the rate grows linearly from 0.
    rematerialize: whether to recompute the activations inside blocks in the
      backward pass (`jax.checkpoint`), which saves memory.
    axis_name: unused.
  """

  size: str = 'tiny'
  version: int = 1
  layer_scale: float = 1e-6
  stochastic_depth_rate: float = 0.1
  rematerialize: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  mixes_examples = False
  layer_order = (
    'backbone/stem',
    r'backbone/(?:down|stage)_(\d)(?:_block_(\d+))?',
    'backbone/norm|head',
  )

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to embeddings [B, C]."""
    depths, widths = SIZES[self.size]
    min_side = STEM * 2 ** (len(depths) - 1)
    if min(images.shape[1:3]) < min_side:
      raise ValueError(
        f'convnext: images of {images.shape[1]} x {images.shape[2]} pixels are'
        f' too small; at least {min_side} x {min_side}'
      )
    norm = functools.partial(
      normalization.LayerNorm, _NORM_EPSILON, dtype=self.dtype
    )
    block_class = Block
    if self.rematerialize:
      block_class = nn.remat(Block, static_argnums=(2,))
    x = layers.Patchify(widths[0], STEM, self.dtype, name='stem')(images)
    x = norm(name='stem_norm')(x)
    number = 0
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
      if stage:
        x = norm(name=f'down_{stage}_norm')(x)
        x = layers.Patchify(width, 2, self.dtype, name=f'down_{stage}')(x)
      for position in range(depth):
        x = block_class(
          version=self.version,
          layer_scale=self.layer_scale,
          drop_rate=self.stochastic_depth_rate * number / (sum(depths) - 1),
          dtype=self.dtype,
          name=f'stage_{stage}_block_{position:02d}',
        )(x, train)
        number += 1
    x = layers.feature_map(self, x)
    x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return norm(name='norm')(x).astype(jnp.float32)
