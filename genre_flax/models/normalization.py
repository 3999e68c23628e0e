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

# Of BatchNorm: addend of the variance, and decay of the running statistics.
EPSILON = 1e-3
_MOMENTUM = 0.9


class BatchNorm(nn.Module):
  """Batch normalization (Ioffe and Szegedy, 2015).

  Attributes:
    axis_name: mapped axis over which statistics are averaged; None for one
      device.
    scale_init: initializer of the scale.
  """

  axis_name: str | None = None
  dtype: Any = jnp.float32
  scale_init: Callable[..., jax.Array] = nn.initializers.ones

  def __call__(
    self, images: jax.Array, *, use_running_average: bool
  ) -> jax.Array:
    """Normalizes images.

    Args:
      images: [B, H, W, C].
      use_running_average: whether to use the running statistics, and leave them
        unchanged; otherwise those of the global batch, which update them.

    Returns:
      An array of the shape of `images`.
    """
    factor, shift = self.affine(
      images.shape[-1], None if use_running_average else images
    )
    return ops.channel_affine(
      images.astype(self.dtype),
      factor.astype(self.dtype),
      shift.astype(self.dtype),
    )

  @nn.compact
  def affine(
    self, features: int, images: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Scale and shift by the statistics of images, or by the running ones."""
    scale = layers.parameter(self, 'scale', self.scale_init, (features,))
    bias = layers.parameter(self, 'bias', nn.initializers.zeros, (features,))
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
        running.value = _MOMENTUM * running.value + (1 - _MOMENTUM) * new
    factor = scale * lax.rsqrt(variance + EPSILON)
    return factor, bias - mean * factor


@dataclasses.dataclass(frozen=True)
class ConvNorm:
  """Convolution, batch normalization and activation.

  With running statistics, the normalization is folded into the kernel and the
  bias of the convolution.

  This is not a Flax module: `Conv` and `BatchNorm` are submodules of the module
  that calls it, named `name` and `name`_norm, or numbered by Flax.

  Attributes: those of `Conv` and `BatchNorm`, and
    activation: a key of `ops.ACTIVATIONS`.
    use_running_average: see `BatchNorm.__call__`.
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
      self.axis_name,
      self.dtype,
      self.scale_init,
      name=self.name and f'{self.name}_norm',
    )
    if not self.use_running_average:
      x = norm(conv(x), use_running_average=False)
      return ops.ACTIVATIONS[self.activation](x)
    scale, shift = norm.affine(self.features)
    return conv(x, scale=scale, bias=shift, activation=self.activation)


class LayerNorm(nn.Module):
  """Layer normalization (Ba et al., 2016) over the last axis.

  Attributes:
    epsilon: added to the variance.
  """

  epsilon: float
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns an array of the shape of `x`, [..., C]."""
    scale = layers.parameter(self, 'scale', nn.initializers.ones, x.shape[-1:])
    bias = layers.parameter(self, 'bias', nn.initializers.zeros, x.shape[-1:])
    x = x.astype(jnp.float32)
    x -= x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x).mean(axis=-1, keepdims=True)
    x *= lax.rsqrt(variance + self.epsilon)
    return ops.channel_affine(x, scale, bias).astype(self.dtype)
