"""Batch normalisation over all devices, with gradients written out."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.models import forms

# Added to the variance, where nothing else is said.
EPSILON = 1e-3

Dtype = Any


@jax.custom_vjp
def channel_affine(
  images: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
  """`images * scale + shift`, a scale and a shift for each channel.

  Args:
    images: [B, H, W, C].
    scale: [C].
    shift: [C].

  Returns:
    [B, H, W, C], of the dtype of `images`.
  """
  return images * scale.astype(images.dtype) + shift.astype(images.dtype)


def _channel_affine_forward(images, scale, shift):
  return channel_affine(images, scale, shift), (images, scale)


def _channel_affine_backward(saved, gradient):
  images, scale = saved
  to_shift, to_scale = forms.channel_sums(gradient, images)
  return (
    gradient * scale.astype(gradient.dtype),
    to_scale.astype(scale.dtype),
    to_shift.astype(scale.dtype),
  )


channel_affine.defvjp(_channel_affine_forward, _channel_affine_backward)


@jax.custom_vjp
def channel_moments(images: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The means over all pixels of `images` and of their squares.

  Args:
    images: [B, H, W, C].

  Returns:
    Two arrays [C], float32.
  """
  total, squares = forms.channel_sums(images, images)
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

  @nn.compact
  def __call__(
    self, images: jax.Array, *, use_batch_statistics: bool | None = None
  ) -> jax.Array:
    """Returns an array of the shape of `images`, [B, H, W, C]."""
    use_batch_statistics = nn.merge_param(
      'use_batch_statistics', self.use_batch_statistics, use_batch_statistics
    )
    features = images.shape[-1]
    scale = self.param('scale', self.scale_init, (features,))
    bias = self.param('bias', nn.initializers.zeros, (features,))
    running_mean = self.variable(
      'batch_stats', 'mean', jnp.zeros, (features,), jnp.float32
    )
    running_variance = self.variable(
      'batch_stats', 'var', jnp.ones, (features,), jnp.float32
    )
    mean, variance = running_mean.value, running_variance.value
    if use_batch_statistics and not self.is_initializing():
      mean, square = channel_moments(images)
      if self.axis_name is not None:
        mean, square = lax.pmean((mean, square), self.axis_name)
      variance = jnp.maximum(square - mean**2, 0.0)
      for running, new in ((running_mean, mean), (running_variance, variance)):
        running.value = (
          self.momentum * running.value + (1 - self.momentum) * new
        )
    factor = scale * lax.rsqrt(variance + self.epsilon)
    return channel_affine(
      images.astype(self.dtype), factor, bias - mean * factor
    )
