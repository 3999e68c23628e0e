"""Layers that take the fastest exact form for the platform.

This is the one place where forms are chosen. A function here is the definition,
as other platforms run it; its form for CPU, which computes the same numbers, is
in cpu_forms.py. `lax.platform_dependent` chooses between them when the program
is lowered, so a step that is compiled for TPU on a machine without one gets the
TPU's form.

Why two: what is fast on CPU moves more bytes than the plain form on TPU.
"""

from collections.abc import Callable
import math
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.models import cpu_forms

Dtype = Any


def conv(
  images: jax.Array, kernel: jax.Array, *, stride: int = 1, padding: str
) -> jax.Array:
  """A convolution.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].
    stride: in both directions.
    padding: 'VALID' or 'SAME'.

  Returns:
    [B, out_height, out_width, features].
  """
  pads = _pads(images, kernel, stride, padding)
  return lax.platform_dependent(
    images,
    kernel,
    cpu=lambda x, k: cpu_forms.conv(x, k, stride, pads),
    default=lambda x, k: _conv(x, k, stride, padding),
  )


def _conv(images, kernel, stride, padding, *, groups=1):
  return lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding=padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


def _pads(images, kernel, stride, padding):
  """((top, bottom), (left, right)), in zeros."""
  return tuple(
    lax.padtype_to_pads(
      images.shape[1:3], kernel.shape[:2], (stride, stride), padding
    )
  )


def max_pool_2x2(images: jax.Array) -> jax.Array:
  """Max-pooling over 2 x 2 windows, stride 2; an odd last row is dropped.

  Args:
    images: [B, H, W, C].

  Returns:
    [B, H // 2, W // 2, C].
  """
  return lax.platform_dependent(
    images, cpu=cpu_forms.max_pool_2x2, default=_max_pool
  )


def _max_pool(images):
  return nn.max_pool(images, (2, 2), strides=(2, 2))


def conv_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """A 'VALID' convolution, then `max_pool_2x2`, for images of few channels.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].

  Returns:
    [B, (H - kernel_height + 1) // 2, (W - kernel_width + 1) // 2, features].
  """
  return lax.platform_dependent(
    images,
    kernel,
    cpu=cpu_forms.conv_max_pool,
    default=lambda x, k: _max_pool(_conv(x, k, 1, 'VALID')),
  )


def pointwise_conv(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """A 1 x 1 convolution as one matrix product.

  Args:
    images: [B, H, W, C].
    kernel: [1, 1, C, features].

  Returns:
    [B, H, W, features].
  """
  # XLA gives TPUs the same program for both forms; on CPU the product is 2 to
  # 10 times faster than the convolution.
  return jnp.dot(images, kernel[0, 0])


def depthwise_conv(
  images: jax.Array, kernel: jax.Array, *, stride: int = 1
) -> jax.Array:
  """A depthwise convolution with 'SAME' padding.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_size, kernel_size, 1, C].
    stride: in both directions.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C].
  """
  pads = _pads(images, kernel, stride, 'SAME')
  return lax.platform_dependent(
    images,
    kernel,
    cpu=lambda x, k: cpu_forms.depthwise_conv(x, k, stride, pads),
    default=lambda x, k: _conv(x, k, stride, 'SAME', groups=x.shape[-1]),
  )


class ConvMaxPool(nn.Module):
  """A 'VALID' convolution with bias, then ReLU and 2 x 2 max-pooling.

  Bias and ReLU are monotonic, so they come after the pool, on a quarter of the
  pixels: the same numbers for less work.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel, in pixels.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel_size: int = 5
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, (H - k + 1) // 2, (W - k + 1) // 2, F]."""
    kernel = self.param(
      'kernel',
      nn.initializers.glorot_uniform(),
      (self.kernel_size, self.kernel_size, images.shape[-1], self.features),
    )
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    images, kernel, bias = nn.dtypes.promote_dtype(
      images, kernel, bias, dtype=self.dtype
    )
    if images.shape[-1] <= 4:
      pooled = conv_max_pool(images, kernel)
    else:
      pooled = max_pool_2x2(conv(images, kernel, padding='VALID'))
    return nn.relu(pooled + bias)


class Conv(nn.Module):
  """A convolution without bias and with 'SAME' padding.

  Attributes:
    features: output channels.
    kernel_size: side of the square kernel, in pixels.
    stride: in both directions.
    dtype: of the computation; parameters are float32.
  """

  features: int
  kernel_size: int
  stride: int = 1
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), F]."""
    kernel = self.param(
      'kernel',
      nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
      (self.kernel_size, self.kernel_size, images.shape[-1], self.features),
    )
    images, kernel = nn.dtypes.promote_dtype(images, kernel, dtype=self.dtype)
    if self.kernel_size == 1:
      return pointwise_conv(images[:, :: self.stride, :: self.stride], kernel)
    return conv(images, kernel, stride=self.stride, padding='SAME')


class DepthwiseConv(nn.Module):
  """A depthwise convolution without bias and with 'SAME' padding.

  Attributes:
    kernel_size: side of the square kernel, in pixels.
    stride: in both directions.
    dtype: of the computation; parameters are float32.
  """

  kernel_size: int
  stride: int = 1
  dtype: Dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), C]."""
    kernel = self.param(
      'kernel',
      nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
      (self.kernel_size, self.kernel_size, 1, images.shape[-1]),
    )
    images, kernel = nn.dtypes.promote_dtype(images, kernel, dtype=self.dtype)
    return depthwise_conv(images, kernel, stride=self.stride)


def random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Random uint8 of any shape, four from each random word.

  `jax.random.bits` with dtype uint8 draws two words of 32 bits for each byte.
  """
  size = math.prod(shape)
  words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
  return (
    lax.bitcast_convert_type(words, jnp.uint8).ravel()[:size].reshape(shape)
  )


class Dropout(nn.Module):
  """Dropout that draws one random byte an element.

  Random numbers are a good part of a training step on CPU, in time and in
  memory: they are kept for the backward pass. The rate is rounded to the
  nearest 1/256, and the kept elements are scaled by the rounded rate, so the
  expectation is exact (Srivastava et al., 2014).

  Attributes:
    rate: share of elements set to 0, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, inputs: jax.Array, *, deterministic: bool) -> jax.Array:
    """Returns an array of the shape and dtype of `inputs`."""
    dropped = round(self.rate * 256)
    if deterministic or dropped == 0:
      return inputs
    drawn = random_bytes(self.make_rng('dropout'), inputs.shape)
    keep = drawn >= jnp.uint8(dropped)
    scale = jnp.asarray(256 / (256 - dropped), inputs.dtype)
    return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs))


class StochasticDepth(nn.Module):
  """Drops the whole of an example, and scales the others (Huang et al., 2016).

  Attributes:
    rate: share of examples set to 0, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, inputs: jax.Array, *, deterministic: bool) -> jax.Array:
    """Returns an array of the shape and dtype of `inputs`, [B, ...]."""
    if deterministic or self.rate == 0:
      return inputs
    shape = (inputs.shape[0],) + (1,) * (inputs.ndim - 1)
    keep = jax.random.bernoulli(self.make_rng('dropout'), 1 - self.rate, shape)
    scale = jnp.asarray(1 / (1 - self.rate), inputs.dtype)
    return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs))


def channel_sums(
  images: jax.Array, factors: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sums over all pixels of `images`, and of `images * factors`.

  Args:
    images: [B, H, W, C].
    factors: [B, H, W, C].

  Returns:
    Two arrays [C], float32.
  """
  return lax.platform_dependent(
    images,
    factors,
    cpu=cpu_forms.channel_sums,
    default=_channel_sums,
  )


def _channel_sums(images, factors):
  images, factors = images.astype(jnp.float32), factors.astype(jnp.float32)
  return images.sum(axis=(0, 1, 2)), (images * factors).sum(axis=(0, 1, 2))


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
  to_shift, to_scale = channel_sums(gradient, images)
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
  total, squares = channel_sums(images, images)
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
  epsilon: float = 1e-3
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
