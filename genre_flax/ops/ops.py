"""Operations that take the fastest exact form for the platform.

This is the one place where forms are chosen. A function here is the definition,
as other platforms run it; its form for CPU, which computes the same numbers, is
in one of the files cpu_*.py. `lax.platform_dependent` chooses between them when
the program is lowered, so a step that is compiled for TPU on a machine without
one gets the TPU's form.

Why two: what is fast on CPU moves more bytes than the plain form on TPU.

Where the platform is known when a program is traced, `target` says so, and its
form alone is traced. A program that is to run elsewhere, on machines and in
libraries that nobody knows yet, has the definitions alone.
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
from genre_flax.ops.cpu import matmul as cpu_matmul
from genre_flax.ops.cpu import reductions as cpu_sums
from genre_flax.runtime import target

ACTIVATIONS = {'': lambda x: x, 'relu': nn.relu, 'relu6': nn.relu6}


def _choose(
  *arrays: jax.Array, cpu: Callable[..., Any], default: Callable[..., Any]
) -> Any:
  """The result of the platform's form of an operation."""
  platform = target.platform()
  if platform is None:
    return lax.platform_dependent(*arrays, cpu=cpu, default=default)
  return (cpu if platform == 'cpu' else default)(*arrays)


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
  return _choose(
    images,
    kernel,
    cpu=lambda x, k: cpu_conv.conv(x, k, stride, pads),
    default=lambda x, k: _conv(x, k, stride, padding),
  )


def conv_bias(
  images: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  *,
  stride: int = 1,
  padding: str,
  activation: str = '',
) -> jax.Array:
  """A convolution, full or depthwise, a bias and an activation.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C or 1, features].
    bias: [features].
    stride: in both directions.
    padding: 'VALID' or 'SAME'.
    activation: '', 'relu' or 'relu6'.

  Returns:
    [B, out_height, out_width, features].
  """
  pads = _pads(images, kernel, stride, padding)
  groups = images.shape[-1] // kernel.shape[2]
  activate = ACTIVATIONS[activation]
  return _choose(
    images,
    kernel,
    bias,
    cpu=lambda x, k, b: cpu_conv.conv_bias(x, k, b, stride, pads, activation),
    default=lambda x, k, b: activate(
      _conv(x, k, stride, padding, groups=groups) + b
    ),
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


def conv_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """A 'VALID' convolution, then max-pooling over 2 x 2 pixels.

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
  return dense(images, kernel[0, 0])


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """A matrix product of the last axis.

  Args:
    x: [..., C].
    kernel: [C, features].

  Returns:
    [..., features].
  """
  return _choose(x, kernel, cpu=cpu_matmul.dense, default=jnp.dot)


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """`x + bias`, for x [..., C] and bias [C]."""
  return _choose(x, bias, cpu=cpu_sums.add_bias, default=jnp.add)


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
    cpu=cpu_matmul.dot_product_attention,
    default=attention.dot_product_attention,
  )


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
  return _choose(
    images,
    kernel,
    cpu=lambda x, k: cpu_conv.depthwise_conv(x, k, stride, pads),
    default=lambda x, k: _conv(x, k, stride, 'SAME', groups=x.shape[-1]),
  )


def channel_affine(
  x: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
  """`x * scale + shift`, a scale and a shift for each channel.

  Args:
    x: [..., C].
    scale: [C], of its dtype.
    shift: [C], of its dtype.

  Returns:
    [..., C].
  """
  return _choose(
    x,
    scale,
    shift,
    cpu=cpu_sums.channel_affine,
    default=lambda x, factor, bias: x * factor + bias,
  )


def channel_sums(
  x: jax.Array, factors: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sums over all but the last axis of `x`, and of `x * factors`.

  Args:
    x: [..., C].
    factors: [..., C].

  Returns:
    Two arrays [C], float32.
  """
  return _choose(x, factors, cpu=cpu_sums.channel_sums, default=_channel_sums)


def _channel_sums(x, factors):
  x, factors = x.astype(jnp.float32), factors.astype(jnp.float32)
  axes = tuple(range(x.ndim - 1))
  return x.sum(axes), (x * factors).sum(axes)
