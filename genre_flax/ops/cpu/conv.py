"""Convolutions for CPU.

XLA's CPU backend is slow for convolutions over few channels and for depthwise
ones. These kernels call oneDNN where it is available. Otherwise they are
written such that XLA compiles them to loops over the channels.

The backward passes are explicit. Those that JAX derives contain convolutions in
layouts that XLA transposes only outside of loops: inside of one, such as
gradient accumulation, they are 50 times slower.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.ops.cpu import linear as cpu_linear
from genre_flax.ops.cpu import onednn

_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(
  images: jax.Array, kernel: jax.Array, stride: int, pads: onednn.Pads
) -> jax.Array:
  """Convolution, full or depthwise.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features], or [kernel_height,
      kernel_width, 1, C] of a depthwise convolution.
    stride: in both directions.
    pads: zeros as ((top, bottom), (left, right)), below the kernel size.

  Returns:
    [B, out_height, out_width, features].
  """
  if onednn.is_available(images.dtype):
    return onednn.convolution(images, kernel, stride=stride, pads=pads)
  if not _is_full(images, kernel):
    return _depthwise(images, kernel, stride, pads)
  return lax.conv_general_dilated(
    images, kernel, (stride, stride), pads, dimension_numbers=_DIMENSIONS
  )


def _is_full(images, kernel) -> bool:
  return kernel.shape[2] == images.shape[-1]


def _conv_forward(images, kernel, stride, pads):
  return conv(images, kernel, stride, pads), (images, kernel)


def _conv_backward(stride, pads, residuals, gradient):
  images, kernel = residuals
  dilated, back_pads = _dilate(gradient, images, kernel, stride, pads)
  flipped, kernel_gradient = kernel[::-1, ::-1], _depthwise_kernel_gradient
  if _is_full(images, kernel):
    flipped, kernel_gradient = flipped.transpose(0, 1, 3, 2), _kernel_gradient
  d_images = conv(dilated, flipped, 1, back_pads)
  return d_images, kernel_gradient(images, kernel, gradient, stride, pads)


conv.defvjp(_conv_forward, _conv_backward)


def _kernel_gradient(images, kernel, gradient, stride, pads):
  """Convolution of the images with the gradient, summed over the batch."""
  # The output has the shape of the kernel.
  pads = tuple(
    (before, kernel_side + stride * (out_side - 1) - side - before)
    for (before, _), kernel_side, out_side, side in zip(
      pads,
      kernel.shape[:2],
      gradient.shape[1:3],
      images.shape[1:3],
      strict=True,
    )
  )
  gradient = gradient.transpose(1, 2, 0, 3)
  # In float32, XLA is faster.
  if images.dtype == jnp.bfloat16 and onednn.is_available(images.dtype):
    # oneDNN does not accept negative padding.
    cropped = lax.pad(
      images,
      jnp.zeros((), images.dtype),
      ((0, 0, 0), *((0, min(after, 0), 0) for _, after in pads), (0, 0, 0)),
    )
    d_kernel = onednn.convolution(
      cropped.transpose(3, 1, 2, 0),
      gradient,
      pads=tuple((before, max(after, 0)) for before, after in pads),
      dilation=stride,
    )
  else:
    d_kernel = lax.conv_general_dilated(
      images.transpose(3, 1, 2, 0),
      gradient,
      (1, 1),
      pads,
      rhs_dilation=(stride, stride),
      dimension_numbers=_DIMENSIONS,
    )
  return d_kernel.transpose(1, 2, 0, 3)


def _dilate(gradient, images, kernel, stride, pads):
  """Input of the convolution with the flipped kernel in the backward pass.

  Returns:
    The gradient, dilated by the stride, and the padding of the convolution.
  """
  zeros = ((0, 0, 0), (0, 0, stride - 1), (0, 0, stride - 1), (0, 0, 0))
  dilated = lax.pad(gradient, jnp.zeros((), gradient.dtype), zeros)
  back_pads = tuple(
    (kernel_side - 1 - before, side + before - dilated_side)
    for (before, _), kernel_side, side, dilated_side in zip(
      pads, kernel.shape[:2], images.shape[1:3], dilated.shape[1:3], strict=True
    )
  )
  return dilated, back_pads


def _depthwise(images, kernel, stride, pads):
  """Depthwise convolution by XLA."""
  # A sum of shifted images, each times a weight of the kernel. XLA compiles it
  # to one loop, 10 to 20 times faster than its grouped convolution.
  padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
  kernel_height, kernel_width = kernel.shape[:2]
  height = (padded.shape[1] - kernel_height) // stride + 1
  width = (padded.shape[2] - kernel_width) // stride + 1
  shifts = _shifts(padded, kernel.shape[:2], stride, (height, width))
  weights = kernel.reshape(kernel_height * kernel_width, -1)
  return sum(
    shifted * weight for shifted, weight in zip(shifts, weights, strict=True)
  )


def _depthwise_kernel_gradient(images, kernel, gradient, stride, pads):
  # The gradient of the kernel is a sum over all pixels. One image at a time,
  # along its rows first, is faster than the whole batch.
  size, out_size = kernel.shape[:2], gradient.shape[1:3]
  padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))

  def add_image(total, pair):
    image, image_gradient = pair
    products = [
      (shifted * image_gradient[None]).sum(axis=2, dtype=jnp.float32)
      for shifted in _shifts(image[None], size, stride, out_size)
    ]
    return total + jnp.concatenate(products), None

  num_weights, channels = size[0] * size[1], images.shape[-1]
  zeros = jnp.zeros((num_weights, out_size[0], channels), jnp.float32)
  by_row, _ = lax.scan(add_image, zeros, (padded, gradient))
  return by_row.sum(axis=1).reshape(kernel.shape).astype(kernel.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def conv_bias(
  images: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  stride: int,
  pads: onednn.Pads,
  activation: str,
) -> jax.Array:
  """Convolution, full or depthwise, with bias and activation.

  oneDNN computes all three in one pass over memory.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C or 1, features].
    bias: [features].
    stride: in both directions.
    pads: zeros as ((top, bottom), (left, right)), below the kernel size.
    activation: '', 'relu' or 'relu6'.

  Returns:
    [B, out_height, out_width, features].
  """
  if onednn.is_available(images.dtype):
    return onednn.convolution(
      images,
      kernel,
      stride=stride,
      pads=pads,
      bias=bias,
      activation=activation,
    )
  return _activate(
    _without_bias(images, kernel, stride, pads)(images, kernel) + bias,
    activation,
  )


def _activate(x, activation):
  if activation:
    x = jnp.maximum(x, 0)
  return jnp.minimum(x, 6) if activation == 'relu6' else x


def _without_bias(images, kernel, stride, pads):
  """The convolution as a function of images and kernel."""
  if kernel.shape[:2] == (1, 1) and _is_full(images, kernel):
    return lambda x, k: cpu_linear.dense(x[:, ::stride, ::stride], k[0, 0])
  return lambda x, k: conv(x, k, stride, pads)


def _conv_bias_forward(images, kernel, bias, stride, pads, activation):
  out = conv_bias(images, kernel, bias, stride, pads, activation)
  return out, (images, kernel, out)


def _conv_bias_backward(stride, pads, activation, residuals, gradient):
  images, kernel, out = residuals
  if activation:
    is_active = out > 0
    if activation == 'relu6':
      is_active &= out < 6
    gradient = jnp.where(is_active, gradient, jnp.zeros((), gradient.dtype))
  _, vjp = jax.vjp(_without_bias(images, kernel, stride, pads), images, kernel)
  d_bias = cpu_linear.column_sums(gradient).astype(gradient.dtype)
  return *vjp(gradient), d_bias


conv_bias.defvjp(_conv_bias_forward, _conv_bias_backward)


def _shifts(padded, size, stride, out_size):
  """Yields the pixels under each weight of a kernel of the given size."""
  (height, width), (out_height, out_width) = size, out_size
  for row in range(height):
    for column in range(width):
      yield padded[
        :,
        row : row + stride * (out_height - 1) + 1 : stride,
        column : column + stride * (out_width - 1) + 1 : stride,
      ]
