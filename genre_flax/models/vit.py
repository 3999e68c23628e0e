"""Vision transformers (Dosovitskiy et al., 2021, '... Worth 16x16 Words').

With the options that the published families differ by: AugReg and DeiT (class
token), DeiT III (layer scale), CLIP (norm before the blocks, quick GELU),
SigLIP (attention pooling), DINOv2 (layer scale, register tokens).
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import classifier
from genre_flax.models import layers
from genre_flax.models import transformer


class Size(NamedTuple):
  """Of a transformer."""

  width: int
  depth: int
  num_heads: int


SIZES = {
  'Ti': Size(192, 12, 3),
  'S': Size(384, 12, 6),
  'B': Size(768, 12, 12),
  'L': Size(1024, 24, 16),
}
POOLS = ('token', 'mean', 'attention')


class ViT(classifier.Classifier):
  """The network, with one logit a genre.

  The position of each patch is learnt, and belongs to the grid of the image
  size that the network is made for; `published` resamples those of another.
  What published networks add to the class token and to registers as their
  position is added to the tokens themselves.

  Attributes:
    num_genres: number of logits.
    size: a key of SIZES.
    patch: side of a patch, in pixels; divides the images' height and width.
    pool: 'token' (the class token), 'mean' (of the patches) or 'attention'
      (of the patches, by a learnt query).
    num_registers: tokens that are read and written, and not pooled (Darcet et
      al., 2024).
    pre_norm: whether to normalise before the first block.
    gelu: 'exact', 'tanh' or 'quick'.
    layer_scale: what the scales of the branches start from; 0 for none.
    norm_epsilon: of all LayerNorms.
    feature_norm: see Classifier.
    dropout_rate: before the logits.
    stochastic_depth_rate: of the last block; it grows from 0 linearly.
    rematerialize: whether to compute the insides of blocks again in the
      backward pass, and not to keep them (`jax.checkpoint`).
    dtype: of the computation; parameters and logits are float32.
    axis_name: the mapped axis that `feature_norm` averages over.
  """

  num_genres: int
  size: str = 'S'
  patch: int = 16
  pool: str = 'token'
  num_registers: int = 0
  pre_norm: bool = False
  gelu: str = 'exact'
  layer_scale: float = 0.0
  norm_epsilon: float = 1e-6
  feature_norm: bool = False
  dropout_rate: float = 0.0
  stochastic_depth_rate: float = 0.0
  rematerialize: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  layer_order = (
    'backbone/(?:embed|position|tokens|pre_norm)',
    r'backbone/block_(\d+)',
    'backbone/(?:norm|pool)|head',
  )

  def setup(self) -> None:
    """Makes the parts."""
    self.backbone = Backbone(
      size=self.size,
      patch=self.patch,
      pool=self.pool,
      num_registers=self.num_registers,
      pre_norm=self.pre_norm,
      gelu=self.gelu,
      layer_scale=self.layer_scale,
      norm_epsilon=self.norm_epsilon,
      stochastic_depth_rate=self.stochastic_depth_rate,
      rematerialize=self.rematerialize,
      dtype=self.dtype,
    )
    super().setup()


class Backbone(nn.Module):
  """Patches, blocks and pooling; for the attributes see ViT."""

  size: str
  patch: int
  pool: str
  num_registers: int
  pre_norm: bool
  gelu: str
  layer_scale: float
  norm_epsilon: float
  stochastic_depth_rate: float
  rematerialize: bool
  dtype: Any

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalised images [B, H, W, 3] to features [B, width]."""
    width, depth, num_heads = SIZES[self.size]
    _check_image_shape(images.shape[1:3], self.patch)
    norm = functools.partial(
      layers.LayerNorm, self.norm_epsilon, dtype=self.dtype
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
        # What comes of the patches after the last block is not read where a
        # token is: they speak through its attention alone.
        x = self._mark(x, num_tokens, grid)
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

  def _mark(self, x, num_tokens, grid):
    patches = x[:, num_tokens:].reshape(x.shape[0], *grid)
    patches = layers.feature_map(self, patches)
    patches = patches.reshape(x.shape[0], -1, grid[-1])
    return jnp.concatenate([x[:, :num_tokens], patches], axis=1)


def _check_image_shape(image_shape: tuple[int, int], patch: int) -> None:
  rest = [side % patch for side in image_shape]
  if any(rest):
    height, width = (
      max(patch, round(side / patch) * patch) for side in image_shape
    )
    raise ValueError(
      f'vit: images of {image_shape[0]} x {image_shape[1]} pixels do not divide'
      f' into patches of {patch}; the nearest that do are {height} x {width}'
    )
