"""Convolutions for CPU: the numbers of `forms`, several times faster.

XLA's CPU backend runs convolutions over few channels and depthwise ones far
below the speed of the machine. They go to oneDNN where it is available; else
they are written in the way that XLA compiles to loops along the channels.

The backward passes are written out. Those that JAX derives ask for convolutions
in layouts that XLA puts right only outside of loops: in gradient accumulation,
which is a loop, they run 50 times slower.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.ops.cpu import matmul as cpu_matmul
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import reductions as cpu_sums

_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv(
  images: jax.Array, kernel: jax.Array, stride: int, pads: onednn.Pads
) -> jax.Array:
  """A convolution.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].
    stride: in both directions.
    pads: zeros above and below, left and right; fewer than the kernel's side.

  Returns:
    [B, out_height, out_width, features].
  """
  if onednn.is_available(images.dtype):
    return onednn.convolution(images, kernel, stride=stride, pads=pads)
  return lax.conv_general_dilated(
    images, kernel, (stride, stride), pads, dimension_numbers=_DIMENSIONS
  )


def _conv_forward(images, kernel, stride, pads):
  return conv(images, kernel, stride, pads), (images, kernel)


def _conv_backward(stride, pads, saved, gradient):
  images, kernel = saved
  spread, back_pads = _spread(gradient, images, kernel, stride, pads)
  turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
  to_images = conv(spread, turned, 1, back_pads)
  return to_images, _kernel_gradient(images, kernel, gradient, stride, pads)


conv.defvjp(_conv_forward, _conv_backward)


def _kernel_gradient(images, kernel, gradient, stride, pads):
  """A convolution of the images by the gradient.

  In it the batch is what is summed over, as channels are elsewhere.
  """
  # Such that the result has the kernel's sides.
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
  # In float32 XLA's own is faster.
  if images.dtype == jnp.bfloat16 and onednn.is_available(images.dtype):
    # oneDNN pads and cannot cut.
    cut = lax.pad(
      images,
      jnp.zeros((), images.dtype),
      ((0, 0, 0), *((0, min(after, 0), 0) for _, after in pads), (0, 0, 0)),
    )
    to_kernel = onednn.convolution(
      cut.transpose(3, 1, 2, 0),
      gradient,
      pads=tuple((before, max(after, 0)) for before, after in pads),
      dilation=stride,
    )
  else:
    to_kernel = lax.conv_general_dilated(
      images.transpose(3, 1, 2, 0),
      gradient,
      (1, 1),
      pads,
      rhs_dilation=(stride, stride),
      dimension_numbers=_DIMENSIONS,
    )
  return to_kernel.transpose(1, 2, 0, 3)


def _spread(gradient, images, kernel, stride, pads):
  """What to convolve with the turned kernel for the gradient to the images.

  Returns:
    The gradient with zeros between its pixels for a stride, and pads.
  """
  between = ((0, 0, 0), (0, 0, stride - 1), (0, 0, stride - 1), (0, 0, 0))
  spread = lax.pad(gradient, jnp.zeros((), gradient.dtype), between)
  back_pads = tuple(
    (kernel_side - 1 - before, side + before - spread_side)
    for (before, _), kernel_side, side, spread_side in zip(
      pads, kernel.shape[:2], images.shape[1:3], spread.shape[1:3], strict=True
    )
  )
  return spread, back_pads


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise_conv(
  images: jax.Array, kernel: jax.Array, stride: int, pads: onednn.Pads
) -> jax.Array:
  """A depthwise convolution.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, 1, C].
    stride: in both directions.
    pads: zeros above and below, left and right; fewer than the kernel's side.

  Returns:
    [B, out_height, out_width, C].
  """
  if onednn.is_available(images.dtype):
    return onednn.convolution(images, kernel, stride=stride, pads=pads)
  # A sum over the kernel's places of shifted images times a weight: XLA makes
  # one loop of it, 10 to 20 times faster than its grouped convolution.
  padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
  kernel_height, kernel_width = kernel.shape[:2]
  height = (padded.shape[1] - kernel_height) // stride + 1
  width = (padded.shape[2] - kernel_width) // stride + 1
  shifts = _shifts(padded, kernel.shape[:2], stride, (height, width))
  weights = kernel.reshape(kernel_height * kernel_width, -1)
  return sum(
    shifted * weight for shifted, weight in zip(shifts, weights, strict=True)
  )


def _depthwise_forward(images, kernel, stride, pads):
  return depthwise_conv(images, kernel, stride, pads), (images, kernel)


def _depthwise_backward(stride, pads, saved, gradient):
  images, kernel = saved
  spread, back_pads = _spread(gradient, images, kernel, stride, pads)
  to_images = depthwise_conv(spread, kernel[::-1, ::-1], 1, back_pads)
  # To the kernel: sums over all pixels. Those of a whole batch are slow; an
  # image at a time, along its rows first, they are not.
  size, out_size = kernel.shape[:2], gradient.shape[1:3]
  padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))

  def add_image(total, pair):
    image, image_gradient = pair
    products = [
      (shifted * image_gradient[None]).sum(axis=2, dtype=jnp.float32)
      for shifted in _shifts(image[None], size, stride, out_size)
    ]
    return total + jnp.concatenate(products), None

  num_places, channels = size[0] * size[1], images.shape[-1]
  zeros = jnp.zeros((num_places, out_size[0], channels), jnp.float32)
  by_row, _ = lax.scan(add_image, zeros, (padded, gradient))
  to_kernel = by_row.sum(axis=1).reshape(kernel.shape)
  return to_images, to_kernel.astype(kernel.dtype)


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def conv_bias(
  images: jax.Array,
  kernel: jax.Array,
  bias: jax.Array,
  stride: int,
  pads: onednn.Pads,
  activation: str,
) -> jax.Array:
  """A convolution, full or depthwise, a bias and an activation.

  oneDNN does all three in one pass over memory.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C or 1, features].
    bias: [features].
    stride: in both directions.
    pads: zeros above and below, left and right; fewer than the kernel's side.
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
  """The convolution alone, as a function of images and kernel."""
  if kernel.shape[:2] == (1, 1) and kernel.shape[2] == images.shape[-1]:
    return lambda x, k: cpu_matmul.dense(x[:, ::stride, ::stride], k[0, 0])
  form = conv if kernel.shape[2] == images.shape[-1] else depthwise_conv
  return lambda x, k: form(x, k, stride, pads)


def _conv_bias_forward(images, kernel, bias, stride, pads, activation):
  out = conv_bias(images, kernel, bias, stride, pads, activation)
  return out, (images, kernel, out)


def _conv_bias_backward(stride, pads, activation, saved, gradient):
  images, kernel, out = saved
  if activation:
    passes = out > 0
    if activation == 'relu6':
      passes &= out < 6
    gradient = jnp.where(passes, gradient, jnp.zeros((), gradient.dtype))
  _, pull = jax.vjp(_without_bias(images, kernel, stride, pads), images, kernel)
  to_bias = cpu_sums.column_sums(gradient).astype(gradient.dtype)
  return *pull(gradient), to_bias


conv_bias.defvjp(_conv_bias_forward, _conv_bias_backward)


def _shifts(padded, size, stride, out_size):
  """Yields padded [B, ...] images at each place of a kernel of a size."""
  (height, width), (out_height, out_width) = size, out_size
  for row in range(height):
    for column in range(width):
      yield padded[
        :,
        row : row + stride * (out_height - 1) + 1 : stride,
        column : column + stride * (out_width - 1) + 1 : stride,
      ]
