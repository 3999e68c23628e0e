"""Layers that take the fastest exact form for the platform.

This is the one place where a layer is written twice. Each function here has a
plain form, which is the definition, and a form for CPU that computes the same
numbers. `lax.platform_dependent` chooses between them when the program is
lowered, so a step that is compiled for TPU on a machine without one gets the
TPU's form.

Why two: XLA's CPU backend runs `reduce_window`, its gradient (select and
scatter) and convolutions over few channels far below the speed of the machine,
while on TPU those are the forms that move the fewest bytes.
"""

from collections.abc import Callable
import functools
import math
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

Dtype = Any


def conv_valid(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """A 'VALID' convolution with stride 1.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].

  Returns:
    [B, H - kernel_height + 1, W - kernel_width + 1, features].
  """
  return lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(1, 1),
    padding='VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def max_pool_2x2(images: jax.Array) -> jax.Array:
  """Max-pooling over 2 x 2 windows, stride 2; an odd last row is dropped.

  Args:
    images: [B, H, W, C].

  Returns:
    [B, H // 2, W // 2, C].
  """
  return lax.platform_dependent(
    images, cpu=_max_pool_by_slices, default=_max_pool_by_window
  )


def _max_pool_by_window(images: jax.Array) -> jax.Array:
  return nn.max_pool(images, (2, 2), strides=(2, 2))


def _max_pool_by_slices(images: jax.Array) -> jax.Array:
  height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
  corners = [
    images[:, row:height:2, column:width:2]
    for row in (0, 1)
    for column in (0, 1)
  ]
  return _maximum_of_four(corners)


def _maximum_of_four(parts: list[jax.Array]) -> jax.Array:
  return jnp.maximum(
    jnp.maximum(parts[0], parts[1]), jnp.maximum(parts[2], parts[3])
  )


def conv_valid_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """`max_pool_2x2(conv_valid(images, kernel))`, for images of few channels.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].

  Returns:
    [B, (H - kernel_height + 1) // 2, (W - kernel_width + 1) // 2, features].
  """
  return lax.platform_dependent(
    images,
    kernel,
    cpu=_conv_max_pool_by_phases,
    default=lambda x, k: _max_pool_by_window(conv_valid(x, k)),
  )


def _conv_max_pool_by_phases(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """Folds 2 x 2 pixels into channels, so that a pool is a maximum of slices.

  Output pixel (2p + a, 2q + b) of the convolution is channel group (a, b) of
  output (p, q) of a convolution over 2 x 2 blocks, whose kernel is the original
  shifted by (a, b). It multiplies more zeros, and still is faster: the blocks
  have 4 C input channels and 4 features to fill the vector units with.
  """
  kernel_height, kernel_width, channels, features = kernel.shape
  out_height = (images.shape[1] - kernel_height + 1) // 2
  out_width = (images.shape[2] - kernel_width + 1) // 2
  blocks_high, blocks_wide = kernel_height // 2 + 1, kernel_width // 2 + 1
  rows = 2 * (out_height + blocks_high - 1)
  columns = 2 * (out_width + blocks_wide - 1)
  images = images[:, :rows, :columns]
  images = jnp.pad(
    images,
    (
      (0, 0),
      (0, rows - images.shape[1]),
      (0, columns - images.shape[2]),
      (0, 0),
    ),
  )
  blocks = images.reshape(
    images.shape[0], rows // 2, 2, columns // 2, 2, channels
  )
  blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
  blocks = blocks.reshape(*blocks.shape[:3], 4 * channels)
  phases = []
  for row in (0, 1):
    for column in (0, 1):
      shifted = jnp.pad(
        kernel,
        (
          (row, 2 * blocks_high - kernel_height - row),
          (column, 2 * blocks_wide - kernel_width - column),
          (0, 0),
          (0, 0),
        ),
      )
      shifted = shifted.reshape(
        blocks_high, 2, blocks_wide, 2, channels, features
      )
      shifted = shifted.transpose(0, 2, 1, 3, 4, 5)
      phases.append(
        shifted.reshape(blocks_high, blocks_wide, 4 * channels, features)
      )
  pixels = conv_valid(blocks, jnp.concatenate(phases, axis=-1))
  return _maximum_of_four(jnp.split(pixels, 4, axis=-1))


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
  return lax.platform_dependent(
    images,
    kernel,
    cpu=lambda x, k: _depthwise_by_shifts(x, k, stride),
    default=lambda x, k: _depthwise_by_conv(x, k, stride),
  )


def _depthwise_by_conv(images, kernel, stride):
  return lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding='SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=images.shape[-1],
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _depthwise_by_shifts(images, kernel, stride):
  """The sum over the kernel's places of shifted images times a weight.

  XLA's CPU backend makes one loop of it that runs along the channels, 10 to 20
  times faster than its grouped convolution.
  """
  return _sum_of_shifts(
    _pad_same(images, kernel.shape[0], stride), kernel, stride
  )


def _depthwise_forward(images, kernel, stride):
  return _depthwise_by_shifts(images, kernel, stride), (images, kernel)


def _depthwise_backward(stride, saved, gradient):
  images, kernel = saved
  size = kernel.shape[0]
  (top, bottom), (left, right) = _same_padding(images.shape, size, stride)
  height, width = images.shape[1:3]
  # To the images: a convolution of the gradient, with zeros between its rows
  # and columns for a stride, with the kernel turned around.
  out_height, out_width = gradient.shape[1:3]
  dilated_height = stride * (out_height - 1) + 1
  dilated_width = stride * (out_width - 1) + 1
  padded = lax.pad(
    gradient,
    jnp.zeros((), gradient.dtype),
    (
      (0, 0, 0),
      (size - 1 - top, height - dilated_height + top, stride - 1),
      (size - 1 - left, width - dilated_width + left, stride - 1),
      (0, 0, 0),
    ),
  )
  to_images = _sum_of_shifts(padded, kernel[::-1, ::-1], 1)
  # To the kernel: sums over all pixels. Column sums of a whole batch are slow
  # on XLA's CPU backend; an image at a time, rows first, they are not.
  padded_images = jnp.pad(
    images, ((0, 0), (top, bottom), (left, right), (0, 0))
  )

  def add_image(total, pair):
    image, image_gradient = pair
    products = [
      (shifted * image_gradient[None]).sum(axis=1, dtype=jnp.float32)
      for shifted in _shifts(image[None], size, stride, image_gradient.shape)
    ]
    return total + jnp.concatenate(products), None

  zeros = jnp.zeros((size * size, out_width, images.shape[-1]), jnp.float32)
  by_column, _ = lax.scan(add_image, zeros, (padded_images, gradient))
  to_kernel = by_column.sum(axis=1).reshape(kernel.shape)
  return to_images, to_kernel.astype(kernel.dtype)


_depthwise_by_shifts.defvjp(_depthwise_forward, _depthwise_backward)


def _same_padding(shape, size, stride):
  """((top, bottom), (left, right)) of 'SAME' padding."""
  return lax.padtype_to_pads(shape[1:3], (size, size), (stride, stride), 'SAME')


def _pad_same(images, size, stride):
  rows, columns = _same_padding(images.shape, size, stride)
  return jnp.pad(images, ((0, 0), rows, columns, (0, 0)))


def _shifts(padded, size, stride, out_shape):
  """Yields padded [B, ...] images at each place of the kernel."""
  height, width = out_shape[-3:-1]
  for row in range(size):
    for column in range(size):
      yield padded[
        :,
        row : row + stride * (height - 1) + 1 : stride,
        column : column + stride * (width - 1) + 1 : stride,
      ]


def _sum_of_shifts(padded, kernel, stride):
  size = kernel.shape[0]
  height = (padded.shape[1] - size) // stride + 1
  width = (padded.shape[2] - size) // stride + 1
  weights = kernel.reshape(size * size, -1)
  shifts = _shifts(padded, size, stride, (height, width, 0))
  return sum(
    shifted * weight for shifted, weight in zip(shifts, weights, strict=True)
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
      pooled = conv_valid_max_pool(images, kernel)
    else:
      pooled = max_pool_2x2(conv_valid(images, kernel))
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
    return lax.conv_general_dilated(
      images,
      kernel,
      window_strides=(self.stride, self.stride),
      padding='SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )


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
    cpu=_channel_sums_by_image,
    default=_channel_sums_at_once,
  )


def _channel_sums_at_once(images, factors):
  images, factors = images.astype(jnp.float32), factors.astype(jnp.float32)
  return images.sum(axis=(0, 1, 2)), (images * factors).sum(axis=(0, 1, 2))


def _channel_sums_by_image(images, factors):
  """Adds up rows an image at a time, and their columns last.

  XLA's CPU backend sums over all but the last axis one element at a time; this
  runs along the channels, 3 to 6 times faster.
  """

  def add_image(totals, pair):
    image, factor = (x.astype(jnp.float32) for x in pair)
    return (
      totals[0] + image.sum(axis=0),
      totals[1] + (image * factor).sum(axis=0),
    ), None

  zeros = jnp.zeros(images.shape[2:], jnp.float32)
  totals, _ = lax.scan(add_image, (zeros, zeros), (images, factors))
  return totals[0].sum(axis=0), totals[1].sum(axis=0)


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
