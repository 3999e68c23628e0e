"""EfficientNet-Lite 0, 1 and 2.

EfficientNet (Tan and Le, 2019) without squeeze-and-excite and with ReLU6, as
published by its authors in tpu/models/official/efficientnet/lite. Width and
depth are scaled, except those of the stem, the last block and the top.
"""

from collections.abc import Callable
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.models import normalization


class Stage(NamedTuple):
  """Blocks of one kind; the first one has the stride."""

  num_blocks: int
  kernel_size: int
  stride: int
  expansion: int
  features: int


_STAGES = (
  Stage(1, 3, 1, 1, 16),
  Stage(2, 3, 2, 6, 24),
  Stage(2, 5, 2, 6, 40),
  Stage(3, 3, 2, 6, 80),
  Stage(3, 5, 1, 6, 112),
  Stage(4, 5, 2, 6, 192),
  Stage(1, 3, 1, 6, 320),
)
# (width, depth) of Lite 0, 1 and 2.
_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))
_STEM_FEATURES = 32
_TOP_FEATURES = 1280


def make_stages(variant: int) -> tuple[Stage, ...]:
  """The scaled stages of EfficientNet-Lite `variant`."""
  width, depth = _SCALES[variant]
  stages = []
  for number, stage in enumerate(_STAGES):
    num_blocks = stage.num_blocks
    if 0 < number < len(_STAGES) - 1:
      num_blocks = math.ceil(depth * num_blocks)
    features = _round_to_eight(width * stage.features)
    stages.append(stage._replace(num_blocks=num_blocks, features=features))
  return tuple(stages)


def _round_to_eight(features: float) -> int:
  """Nearest multiple of 8, at most 10 % below `features`."""
  rounded = max(8, int(features + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * features else rounded


class Block(nn.Module):
  """An inverted residual block (Sandler et al., 2018, MobileNetV2).

  Attributes:
    features: output channels.
    kernel_size: of the depthwise convolution.
    stride: of the depthwise convolution.
    expansion: factor of the channels inside the block.
    drop_rate: stochastic depth of the branch.
    conv_norm: creates a ConvNorm.
  """

  features: int
  kernel_size: int
  stride: int
  expansion: int
  drop_rate: float
  conv_norm: Callable[..., normalization.ConvNorm]

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / s), ceil(W / s), features]."""
    inputs, width = x, self.expansion * x.shape[-1]
    if self.expansion > 1:
      x = self.conv_norm(width, 1, activation='relu6', name='expand')(x)
    x = self.conv_norm(
      width,
      self.kernel_size,
      self.stride,
      activation='relu6',
      feature_group_count=width,
      name='depthwise',
    )(x)
    x = self.conv_norm(self.features, 1, name='project')(x)
    if x.shape != inputs.shape:
      return x
    x = layers.StochasticDepth(self.drop_rate)(x, deterministic=not train)
    return x + inputs


class EfficientNetLite(nn.Module):
  """Backbone: stem, blocks, top, mean over the pixels.

  Attributes:
    variant: 0, 1 or 2.
    stochastic_depth_rate: of the last block; the rate grows linearly from 0.
    batch_norm: 'frozen' to use the running statistics in training too and leave
      them unchanged, 'synchronized' to use those of the global batch.
    stage_features: whether the embeddings include the mean and the standard
      deviation of each channel after every stage. Those of the first stages
      describe the style of an image (Huang and Belongie, 2017, 'Arbitrary Style
      Transfer in Real-time with Adaptive Instance Normalization').
    axis_name: mapped axis over which BatchNorm averages.
  """

  variant: int = 0
  stochastic_depth_rate: float = 0.1
  batch_norm: str = 'frozen'
  stage_features: bool = False
  dtype: Any = jnp.float32
  axis_name: str | None = None

  layer_order = (
    'backbone/stem',
    r'backbone/block_(\d+)',
    'backbone/top',
    'head',
  )

  @property
  def mixes_examples(self) -> bool:
    """See `registry`."""
    return self.batch_norm == 'synchronized'

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalized images [B, H, W, 3] to embeddings [B, F]."""
    conv_norm = functools.partial(
      normalization.ConvNorm,
      use_running_average=not (train and self.mixes_examples),
      axis_name=self.axis_name,
      dtype=self.dtype,
    )
    stem = conv_norm(_STEM_FEATURES, 3, 2, activation='relu6', name='stem')
    x = stem(images)
    stages = make_stages(self.variant)
    num_blocks = sum(stage.num_blocks for stage in stages)
    number, stage_features = 0, []
    for stage in stages:
      for position in range(stage.num_blocks):
        x = Block(
          features=stage.features,
          kernel_size=stage.kernel_size,
          stride=stage.stride if position == 0 else 1,
          expansion=stage.expansion,
          drop_rate=self.stochastic_depth_rate * number / (num_blocks - 1),
          conv_norm=conv_norm,
          name=f'block_{number:02d}',
        )(x, train=train)
        number += 1
      if self.stage_features:
        stage_features.append(layers.channel_statistics(x))
    x = conv_norm(_TOP_FEATURES, 1, activation='relu6', name='top')(x)
    x = layers.feature_map(self, x)
    pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return jnp.concatenate([pooled, *stage_features], axis=-1)
