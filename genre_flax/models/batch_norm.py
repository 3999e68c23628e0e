"""Batch normalisation over all devices, with gradients written out."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.models import layers
from genre_flax.ops import ops

# Added to the variance, where nothing else is said.
EPSILON = 1e-3

Dtype = Any


@jax.custom_vjp
def channel_moments(images: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The means over all pixels of `images` and of their squares.

  Args:
    images: [B, H, W, C].

  Returns:
    Two arrays [C], float32.
  """
  total, squares = ops.channel_sums(images, images)
  count = images.size // images.shape[-1]
  return total / count, squares / count


def _channel_moments_forward(images):
  return channel_moments(images), images


def _channel_moments_backward(images, gradients):
  to_mean, to_square = gradients
  count = images.size // images.shape[-1]
  gradient = (to_mean + 2 * to_square * images.astype(jnp.float32)) / count
  return (gradient.astype(images.dtype),)


channel_moments.defvjp(_channel_moments_forward, _channel_moments_backward)


class BatchNorm(nn.Module):
  """Batch normalisation (Ioffe and Szegedy, 2015).

  In training with `use_batch_statistics` the statistics are those of the whole
  global batch, and the running ones are updated; else the running ones serve.

  Attributes:
    use_batch_statistics: see above; here or in the call.
    axis_name: the mapped axis to average the statistics over; None for one
      device.
    momentum: of the running statistics.
    epsilon: added to the variance.
    dtype: of the output; statistics are float32.
    scale_init: of the scale.
  """

  use_batch_statistics: bool | None = None
  axis_name: str | None = None
  momentum: float = 0.9
  epsilon: float = EPSILON
  dtype: Dtype = jnp.float32
  scale_init: Callable[..., jax.Array] = nn.initializers.ones

  def __call__(
    self, images: jax.Array, *, use_batch_statistics: bool | None = None
  ) -> jax.Array:
    """Returns an array of the shape of `images`, [B, H, W, C]."""
    use_batch_statistics = nn.merge_param(
      'use_batch_statistics', self.use_batch_statistics, use_batch_statistics
    )
    factor, shift = self._affine(
      images.shape[-1], images if use_batch_statistics else None
    )
    return ops.channel_affine(
      images.astype(self.dtype),
      factor.astype(self.dtype),
      shift.astype(self.dtype),
    )

  def running_affine(self, features: int) -> tuple[jax.Array, jax.Array]:
    """What the running statistics make of it: a scale and a shift, [features].

    Both are float32.
    """
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
      mean, square = channel_moments(images)
      if self.axis_name is not None:
        mean, square = lax.pmean((mean, square), self.axis_name)
      variance = jnp.maximum(square - mean**2, 0.0)
      for running, new in ((running_mean, mean), (running_variance, variance)):
        running.value = (
          self.momentum * running.value + (1 - self.momentum) * new
        )
    factor = scale * lax.rsqrt(variance + self.epsilon)
    return factor, bias - mean * factor


def normalized(
  conv: layers.Conv | layers.DepthwiseConv,
  norm: BatchNorm,
  x: jax.Array,
  *,
  activation: str = '',
) -> jax.Array:
  """A convolution, then batch normalisation, then an activation.

  Where the running statistics serve, the convolution does the normalisation by
  its kernel, exactly.

  Args:
    conv: the convolution.
    norm: that says whether it uses the statistics of the batch.
    x: [B, H, W, C].
    activation: '', 'relu' or 'relu6'.

  Returns:
    [B, out_height, out_width, features].
  """
  if norm.use_batch_statistics:
    return ops.ACTIVATIONS[activation](norm(conv(x)))
  scale, shift = norm.running_affine(conv.num_outputs(x))
  return conv(x, scale=scale, shift=shift, activation=activation)
