"""EfficientNet-Lite 0, 1 and 2.

EfficientNet (Tan and Le, 2019) without squeeze-and-excite and with ReLU6, as
published by its authors in tpu/models/official/efficientnet/lite: width and
depth are scaled, but not those of the stem, the last block and the top.
"""

from collections.abc import Callable
import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax.models import batch_norm
from genre_flax.models import classifier
from genre_flax.models import dropout
from genre_flax.models import layers


class Stage(NamedTuple):
  """Blocks of one kind: the first of them has the stride."""

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
NUM_VARIANTS = len(_SCALES)
_STEM_FEATURES = 32
_TOP_FEATURES = 1280


def make_stages(variant: int) -> tuple[Stage, ...]:
  """The stages of EfficientNet-Lite `variant`, scaled."""
  width, depth = _SCALES[variant]
  stages = []
  for number, stage in enumerate(_STAGES):
    is_end = number in (0, len(_STAGES) - 1)
    stages.append(
      stage._replace(
        num_blocks=(
          stage.num_blocks if is_end else math.ceil(depth * stage.num_blocks)
        ),
        features=_round_to_eight(width * stage.features),
      )
    )
  return tuple(stages)


def _round_to_eight(features: float) -> int:
  """The nearest multiple of 8 that is not more than 10 % less."""
  rounded = max(8, int(features + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * features else rounded


class Block(nn.Module):
  """An inverted residual block (Sandler et al., 2018, MobileNetV2).

  Attributes:
    features: output channels.
    kernel_size: of the depthwise convolution.
    stride: of the depthwise convolution.
    expansion: of the channels inside.
    drop_rate: of the whole branch, for an example, in training (stochastic
      depth; Huang et al., 2016).
    norm: makes a BatchNorm.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel_size: int
  stride: int
  expansion: int
  drop_rate: float
  norm: Callable[..., nn.Module]
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / s), ceil(W / s), features]."""
    inputs = x
    if self.expansion > 1:
      width = self.expansion * x.shape[-1]
      x = batch_norm.normalized(
        layers.Conv(width, 1, dtype=self.dtype, name='expand'),
        self.norm(name='expand_norm'),
        x,
        activation='relu6',
      )
    x = batch_norm.normalized(
      layers.DepthwiseConv(
        self.kernel_size, self.stride, self.dtype, name='depthwise'
      ),
      self.norm(name='depthwise_norm'),
      x,
      activation='relu6',
    )
    x = batch_norm.normalized(
      layers.Conv(self.features, 1, dtype=self.dtype, name='project'),
      self.norm(name='project_norm'),
      x,
    )
    if x.shape != inputs.shape:
      return x
    x = dropout.StochasticDepth(self.drop_rate)(x, deterministic=not train)
    return x + inputs


class Backbone(nn.Module):
  """Stem, blocks and top, pooled over the picture.

  Attributes:
    variant: 0, 1 or 2.
    stochastic_depth_rate: of the last block; it grows from 0 linearly.
    batch_norm: see EfficientNetLite.
    stage_features: see EfficientNetLite.
    dtype: of the computation; parameters are float32.
    axis_name: the mapped axis that BatchNorm averages over.
  """

  variant: int
  stochastic_depth_rate: float
  batch_norm: str
  stage_features: bool
  dtype: Any
  axis_name: str | None

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
    """Maps normalised images [B, H, W, 3] to features [B, F]."""
    norm = functools.partial(
      batch_norm.BatchNorm,
      use_batch_statistics=train and self.batch_norm == 'synchronized',
      axis_name=self.axis_name,
      dtype=self.dtype,
    )
    x = batch_norm.normalized(
      layers.Conv(_STEM_FEATURES, 3, stride=2, dtype=self.dtype, name='stem'),
      norm(name='stem_norm'),
      images,
      activation='relu6',
    )
    stages = make_stages(self.variant)
    num_blocks = sum(stage.num_blocks for stage in stages)
    number, of_stages = 0, []
    for stage in stages:
      for position in range(stage.num_blocks):
        x = Block(
          features=stage.features,
          kernel_size=stage.kernel_size,
          stride=stage.stride if position == 0 else 1,
          expansion=stage.expansion,
          drop_rate=self.stochastic_depth_rate * number / (num_blocks - 1),
          norm=norm,
          dtype=self.dtype,
          name=f'block_{number:02d}',
        )(x, train=train)
        number += 1
      if self.stage_features:
        of_stages.append(layers.channel_statistics(x))
    x = batch_norm.normalized(
      layers.Conv(_TOP_FEATURES, 1, dtype=self.dtype, name='top'),
      norm(name='top_norm'),
      x,
      activation='relu6',
    )
    x = layers.feature_map(self, x)
    pooled = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
    return jnp.concatenate([pooled, *of_stages], axis=-1)


class EfficientNetLite(classifier.Classifier):
  """The network, with one logit a genre.

  Attributes:
    num_genres: number of logits.
    variant: 0, 1 or 2.
    dropout_rate: before the logits.
    stochastic_depth_rate: of the last block; it grows from 0 linearly.
    batch_norm: 'frozen' to use the running statistics in training too and leave
      them as they are, 'synchronized' to use those of the global batch.
    stage_features: whether the head also gets the mean and the deviation of
      each channel after every stage. Those of the first stages are what the
      style of a picture is transferred by (Huang and Belongie, 2017, 'Arbitrary
      Style Transfer in Real-time with Adaptive Instance Normalization').
    feature_norm: see Classifier.
    dtype: of the computation; parameters and logits are float32.
    axis_name: the mapped axis that BatchNorm averages over.
  """

  num_genres: int
  variant: int = 0
  dropout_rate: float = 0.2
  stochastic_depth_rate: float = 0.1
  batch_norm: str = 'frozen'
  stage_features: bool = False
  feature_norm: bool = False
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
    """Whether an example's logits in training depend on the others'."""
    return self.batch_norm == 'synchronized' or super().mixes_examples

  def setup(self) -> None:
    """Makes the parts."""
    self.backbone = Backbone(
      variant=self.variant,
      stochastic_depth_rate=self.stochastic_depth_rate,
      batch_norm=self.batch_norm,
      stage_features=self.stage_features,
      dtype=self.dtype,
      axis_name=self.axis_name,
    )
    super().setup()
