"""ConvNeXt (Liu et al., 2022, 'A ConvNet for the 2020s'), versions 1 and 2.

The second (Woo et al., 2023, 'ConvNeXt V2') has global response normalisation
in each block, in place of layer scale.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import classifier
from genre_flax.models import dropout
from genre_flax.models import layers


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
  """Global response normalisation (Woo et al., 2023, equations 1 to 3)."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, H, W, C]."""
    scale = self.param('scale', nn.initializers.zeros, (x.shape[-1],))
    bias = self.param('bias', nn.initializers.zeros, (x.shape[-1],))
    squares = jnp.sum(
      jnp.square(x.astype(jnp.float32)), axis=(1, 2), keepdims=True
    )
    # A channel may be 0 everywhere, where a root has no gradient.
    is_zero = squares == 0
    norms = jnp.where(is_zero, 0, jnp.sqrt(jnp.where(is_zero, 1, squares)))
    share = norms / (norms.mean(axis=-1, keepdims=True) + 1e-6)
    return x + (x * share * scale + bias).astype(x.dtype)


class Block(nn.Module):
  """A wide depthwise convolution, then an MLP over the channels.

  Attributes:
    version: 1 or 2.
    layer_scale: what the scale of the branch's channels starts from.
    drop_rate: of the branch, for an example, in training.
    dtype: of the computation; parameters are float32.
  """

  version: int
  layer_scale: float
  drop_rate: float
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps [B, H, W, C] to [B, H, W, C]."""
    inputs, width = x, x.shape[-1]
    dense = functools.partial(
      layers.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.truncated_normal(0.02),
    )
    bias = self.param('depthwise_bias', nn.initializers.zeros, (width,))
    x = layers.DepthwiseConv(7, dtype=self.dtype, name='depthwise')(
      x, shift=bias
    )
    x = layers.LayerNorm(_NORM_EPSILON, dtype=self.dtype, name='norm')(x)
    x = nn.gelu(dense(4 * width, name='expand')(x), approximate=False)
    if self.version == 2:
      x = ResponseNorm(name='response_norm')(x)
    x = dense(width, name='project')(x)
    if self.version == 1:
      x = layers.LayerScale(self.layer_scale, self.dtype, name='scale')(x)
    x = dropout.StochasticDepth(self.drop_rate)(x, deterministic=not train)
    return inputs + x


class Backbone(nn.Module):
  """Stem, four stages, and the mean over the picture; see ConvNeXt."""

  size: str
  version: int
  layer_scale: float
  stochastic_depth_rate: float
  rematerialize: bool
  dtype: Any

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalised images [B, H, W, 3] to features [B, C]."""
    depths, widths = SIZES[self.size]
    least = STEM * 2 ** (len(depths) - 1)
    if min(images.shape[1:3]) < least:
      raise ValueError(
        f'convnext: images of {images.shape[1]} x {images.shape[2]} pixels are'
        f' too small; at least {least} x {least}'
      )
    norm = functools.partial(layers.LayerNorm, _NORM_EPSILON, dtype=self.dtype)
    block_class = (
      nn.remat(Block, static_argnums=(2,)) if (self.rematerialize) else Block
    )
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


class ConvNeXt(classifier.Classifier):
  """The network, with one logit a genre.

  Attributes:
    num_genres: number of logits.
    size: a key of SIZES.
    version: 1 or 2.
    layer_scale: what the scales of the branches start from, in version 1.
    feature_norm: see Classifier.
    dropout_rate: before the logits.
    stochastic_depth_rate: of the last block; it grows from 0 linearly.
    rematerialize: whether to compute the insides of blocks again in the
      backward pass, and not to keep them (`jax.checkpoint`).
    dtype: of the computation; parameters and logits are float32.
    axis_name: the mapped axis that `feature_norm` averages over.
  """

  num_genres: int
  size: str = 'tiny'
  version: int = 1
  layer_scale: float = 1e-6
  feature_norm: bool = False
  dropout_rate: float = 0.0
  stochastic_depth_rate: float = 0.1
  rematerialize: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  layer_order = (
    'backbone/stem',
    r'backbone/(?:down|stage)_(\d)(?:_block_(\d+))?',
    'backbone/norm|head',
  )

  def setup(self) -> None:
    """Makes the parts."""
    self.backbone = Backbone(
      size=self.size,
      version=self.version,
      layer_scale=self.layer_scale,
      stochastic_depth_rate=self.stochastic_depth_rate,
      rematerialize=self.rematerialize,
      dtype=self.dtype,
    )
    super().setup()
