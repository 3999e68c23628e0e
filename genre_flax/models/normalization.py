"""Normalization layers: BatchNorm, convolution with BatchNorm, LayerNorm."""

from collections.abc import Callable
import dataclasses
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.ops import ops

# Default addend of the variance in BatchNorm.
EPSILON = 1e-3


class BatchNorm(nn.Module):
  """Batch normalization (Ioffe and Szegedy, 2015).

  Attributes:
    use_running_average: whether to normalize by the running statistics, and
      leave them unchanged; otherwise by those of the global batch, which also
      update the running ones. Set here or in the call.
    axis_name: mapped axis over which statistics are averaged; None for one
      device.
    momentum: of the running statistics.
    epsilon: added to the variance.
    dtype: of the output; parameters and statistics are float32.
    scale_init: initializer of the scale.
  """

  use_running_average: bool | None = None
  axis_name: str | None = None
  momentum: float = 0.9
  epsilon: float = EPSILON
  dtype: Any = jnp.float32
  scale_init: Callable[..., jax.Array] = nn.initializers.ones

  def __call__(
    self, images: jax.Array, *, use_running_average: bool | None = None
  ) -> jax.Array:
    """Returns an array of the shape of `images`, [B, H, W, C]."""
    use_running_average = nn.merge_param(
      'use_running_average', self.use_running_average, use_running_average
    )
    factor, shift = self._affine(
      images.shape[-1], None if use_running_average else images
    )
    return ops.channel_affine(
      images.astype(self.dtype),
      factor.astype(self.dtype),
      shift.astype(self.dtype),
    )

  def running_affine(self, features: int) -> tuple[jax.Array, jax.Array]:
    """Scale and shift by the running statistics, both float32 [features]."""
    return self._affine(features, None)

  @nn.compact
  def _affine(self, features, images):
    """Scale and shift by the statistics of images, or by the running ones."""
    scale = self.param('scale', self.scale_init, (features,))
    bias = self.param('bias', nn.initializers.zeros, (features,))
    running_mean = self.variable(
      'batch_stats', 'mean', jnp.zeros, (features,), jnp.float32
    )
    running_variance = self.variable(
      'batch_stats', 'var', jnp.ones, (features,), jnp.float32
    )
    mean, variance = running_mean.value, running_variance.value
    if images is not None and not self.is_initializing():
      mean, square = ops.channel_moments(images)
      if self.axis_name is not None:
        mean, square = lax.pmean((mean, square), self.axis_name)
      variance = jnp.maximum(square - mean**2, 0.0)
      for running, new in ((running_mean, mean), (running_variance, variance)):
        running.value = (
          self.momentum * running.value + (1 - self.momentum) * new
        )
    factor = scale * lax.rsqrt(variance + self.epsilon)
    return factor, bias - mean * factor


@dataclasses.dataclass(frozen=True)
class ConvNorm:
  """Convolution, batch normalization and activation.

  With running statistics, the normalization is folded into the kernel and the
  bias of the convolution.

  This is not a Flax module: `Conv` and `BatchNorm` are submodules of the module
  that calls it, named `name` and `name`_norm, or numbered by Flax.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel, in pixels.
    stride: in both directions.
    activation: a key of `ops.ACTIVATIONS`.
    feature_group_count: see `Conv`.
    use_running_average: see `BatchNorm`.
    axis_name: see `BatchNorm`.
    scale_init: initializer of the scale of the BatchNorm.
    dtype: of the computation; parameters are float32.
    name: of the submodules.
  """

  features: int
  kernel_size: int
  stride: int = 1
  activation: str = ''
  feature_group_count: int = 1
  use_running_average: bool = False
  axis_name: str | None = None
  scale_init: Callable[..., jax.Array] = nn.initializers.ones
  dtype: Any = jnp.float32
  name: str | None = None

  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), F]."""
    conv = layers.Conv(
      self.features,
      self.kernel_size,
      self.stride,
      self.feature_group_count,
      self.dtype,
      name=self.name,
    )
    norm = BatchNorm(
      use_running_average=self.use_running_average,
      axis_name=self.axis_name,
      dtype=self.dtype,
      scale_init=self.scale_init,
      name=self.name and f'{self.name}_norm',
    )
    if not self.use_running_average:
      return ops.ACTIVATIONS[self.activation](norm(conv(x)))
    scale, shift = norm.running_affine(self.features)
    return conv(x, scale=scale, bias=shift, activation=self.activation)


class LayerNorm(nn.Module):
  """Layer normalization (Ba et al., 2016) over the last axis.

  Attributes:
    epsilon: added to the variance.
    dtype: of the output; parameters and statistics are float32.
  """

  epsilon: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns an array of the shape of `x`, [..., C]."""
    scale = self.param('scale', nn.initializers.ones, x.shape[-1:])
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
    x = x.astype(jnp.float32)
    x -= x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x).mean(axis=-1, keepdims=True)
    x *= lax.rsqrt(variance + self.epsilon)
    return ops.channel_affine(x, scale, bias).astype(self.dtype)
