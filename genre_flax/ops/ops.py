"""Operations, each with a reference implementation and a CPU kernel.

This module alone chooses between implementations. A function here contains the
reference, for accelerators. `ops.cpu` contains the kernel, which computes the
same values several times faster on CPU; on TPU it would move more bytes.
`lax.platform_dependent` chooses when a program is lowered, so that a step that
is compiled for TPU on another machine contains the reference.

In the context of `target.traced_for`, only the implementation for that platform
is traced; for `target.PORTABLE`, the reference without `jax.custom_vjp`, which
has derivatives of every order, in forward and in reverse mode.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.ops import attention
from genre_flax.ops.cpu import conv as cpu_conv
from genre_flax.ops.cpu import conv_pool as cpu_conv_pool
from genre_flax.ops.cpu import linear as cpu_linear
from genre_flax.runtime import target

ACTIVATIONS = {'': lambda x: x, 'relu': nn.relu, 'relu6': nn.relu6}


def _choose(
  *arrays: jax.Array, cpu: Callable[..., Any], default: Callable[..., Any]
) -> Any:
  """Applies the implementation for the platform."""
  platform = target.platform()
  if platform is None:
    return lax.platform_dependent(*arrays, cpu=cpu, default=default)
  return (cpu if platform == 'cpu' else default)(*arrays)


def _unless_portable(
  with_vjp: Callable[..., Any], plain: Callable[..., Any]
) -> Callable[..., Any]:
  """Of a reference with `jax.custom_vjp` and one without, that to trace."""
  return plain if target.platform() == target.PORTABLE else with_vjp


def conv(
  images: jax.Array,
  kernel: jax.Array,
  bias: jax.Array | None = None,
  *,
  stride: int = 1,
  padding: str = 'SAME',
  activation: str = '',
) -> jax.Array:
  """Convolution, full or depthwise, with optional bias and activation.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features] or, for a depthwise
      convolution, [kernel_height, kernel_width, 1, C].
    bias: [features].
    stride: in both directions.
    padding: 'VALID' or 'SAME'.
    activation: a key of ACTIVATIONS.

  Returns:
    [B, out_height, out_width, features].
  """
  activate = ACTIVATIONS[activation]
  pads = _pads(images, kernel, stride, padding)
  if bias is not None:
    return _choose(
      images,
      kernel,
      bias,
      cpu=lambda x, k, b: cpu_conv.conv_bias(x, k, b, stride, pads, activation),
      default=lambda x, k, b: activate(_conv(x, k, stride, padding) + b),
    )
  if kernel.shape[:3] == (1, 1, images.shape[-1]):
    # XLA compiles both to the same program for TPU; on CPU, the matrix product
    # is 2 to 10 times faster. Indexing instead of a slice would be traced to a
    # gather where the batch size is symbolic.
    strides = (1, stride, stride, 1)
    images = lax.slice(images, (0,) * 4, images.shape, strides)
    return activate(dense(images, kernel[0, 0]))
  return activate(
    _choose(
      images,
      kernel,
      cpu=lambda x, k: cpu_conv.conv(x, k, stride, pads),
      default=lambda x, k: _conv(x, k, stride, padding),
    )
  )


def _conv(images, kernel, stride, padding):
  return lax.conv_general_dilated(
    images,
    kernel,
    window_strides=(stride, stride),
    padding=padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=images.shape[-1] // kernel.shape[2],
  )


def _pads(images, kernel, stride, padding):
  """Zeros as ((top, bottom), (left, right))."""
  return tuple(
    lax.padtype_to_pads(
      images.shape[1:3], kernel.shape[:2], (stride, stride), padding
    )
  )


def conv_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """'VALID' convolution, then max-pooling over 2 x 2 pixels.

  An odd last row or column is dropped.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].

  Returns:
    [B, (H - kernel_height + 1) // 2, (W - kernel_width + 1) // 2, features].
  """
  return _choose(
    images,
    kernel,
    cpu=cpu_conv_pool.conv_max_pool,
    default=lambda x, k: _max_pool(_conv(x, k, 1, 'VALID')),
  )


def _max_pool(images):
  return nn.max_pool(images, (2, 2), strides=(2, 2))


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Matrix product over the last axis.

  Args:
    x: [..., C].
    kernel: [C, features].

  Returns:
    [..., features].
  """
  return _choose(x, kernel, cpu=cpu_linear.dense, default=jnp.dot)


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """`x + bias`, for x [..., C] and bias [C]."""
  return _choose(x, bias, cpu=cpu_linear.add_bias, default=jnp.add)


def dot_product_attention(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """softmax(query key^T / sqrt(C)) value (Vaswani et al., 2017, equation 1).

  Args:
    query: [B, M, heads, C].
    key: [B, N, heads, C].
    value: [B, N, heads, C].

  Returns:
    [B, M, heads, C].
  """
  return _choose(
    query,
    key,
    value,
    cpu=cpu_linear.dot_product_attention,
    default=_unless_portable(
      attention.recomputed_attention, attention.dot_product_attention
    ),
  )


def channel_affine(
  x: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
  """`x * scale + shift` for each channel.

  Args:
    x: [..., C].
    scale: [C], of the dtype of `x`.
    shift: [C], of the dtype of `x`.

  Returns:
    [..., C].
  """
  return _choose(
    x,
    scale,
    shift,
    cpu=cpu_linear.channel_affine,
    default=lambda x, scale, shift: x * scale + shift,
  )


def channel_moments(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Means of `x` and of its squares over all but the last axis.

  Args:
    x: [..., C].

  Returns:
    Two arrays [C], float32.
  """
  return _unless_portable(_moments_with_vjp, _channel_moments)(x)


def _channel_moments(x):
  total, squares = _choose(
    x, x, cpu=cpu_linear.channel_sums, default=_channel_sums
  )
  count = x.size // x.shape[-1]
  return total / count, squares / count


def _channel_sums(x, factors):
  x, factors = x.astype(jnp.float32), factors.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  return x.sum(axes), (x * factors).sum(axes)


def _channel_moments_forward(x):
  return _channel_moments(x), x


def _channel_moments_backward(x, gradients):
  mean_gradient, square_gradient = gradients
  count = x.size // x.shape[-1]
  gradient = mean_gradient + 2 * square_gradient * x.astype(jnp.float32)
  return ((gradient / count).astype(x.dtype),)


_moments_with_vjp = jax.custom_vjp(_channel_moments)
_moments_with_vjp.defvjp(_channel_moments_forward, _channel_moments_backward)


def resample(
  images: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
  """Resamples the rows and columns of images.

  Args:
    images: [B, H, W, C].
    rows: [B, H_out, H], a `sampling_matrix`.
    columns: [B, W_out, W], a `sampling_matrix`.

  Returns:
    float32 [B, H_out, W_out, C].
  """
  images = jnp.einsum('boh,bhwc->bowc', rows, images.astype(jnp.float32))
  return jnp.einsum('bpw,bowc->bopc', columns, images)


def sampling_matrix(size: int, start: jax.Array, scale: jax.Array) -> jax.Array:
  """Weights of the input pixels for each output pixel of a window.

  Positions outside the image repeat its border.

  Args:
    size: of the input and of the output, in pixels.
    start: [B], start of the window as a fraction of `size`.
    scale: [B], length of the window as a fraction of `size`.

  Returns:
    float32 [B, size, size], one row per output pixel.
  """
  centers = jnp.arange(size) + 0.5
  positions = size * start[:, None] + scale[:, None] * centers - 0.5
  positions = jnp.clip(positions, 0, size - 1)
  distance = jnp.abs(positions[:, :, None] - jnp.arange(size))
  return jnp.maximum(0.0, 1 - distance)


def central_crop(images: jax.Array, fraction: jax.Array | float) -> jax.Array:
  """Crops the centers of images and resizes them to the input size.

  Args:
    images: [B, H, W, C].
    fraction: of height and width that is kept, in (0, 1].

  Returns:
    float32 [B, H, W, C].
  """
  fraction = jnp.asarray(fraction, jnp.float32)[None]
  rows, columns = (
    sampling_matrix(size, (1 - fraction) / 2, fraction)[0]
    for size in images.shape[1:3]
  )
  # One matrix for all images is faster than a batch of equal ones.
  images = jnp.einsum('oh,bhwc->bowc', rows, images.astype(jnp.float32))
  return jnp.einsum('pw,bowc->bopc', columns, images)
