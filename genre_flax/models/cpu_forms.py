"""The forms of layers.py for CPU: the same numbers, several times faster.

XLA's CPU backend runs `reduce_window` and its gradient, convolutions over few
channels, depthwise ones, and sums over all but the last axis far below the
speed of the machine. Convolutions go to oneDNN where jaxlib has it; the rest is
written in the way that XLA compiles to loops along the channels.

The backward passes are written out. Those that JAX derives ask for convolutions
in layouts that XLA puts right only outside of loops: in gradient accumulation,
which is a loop, they run 50 times slower.
"""

from collections.abc import Sequence
import functools

import jax
from jax import lax
import jax.numpy as jnp

from genre_flax.models import onednn

_DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')
_NO_PADS = ((0, 0), (0, 0))


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
  # To the kernel: a convolution of the images by the gradient, in which the
  # batch is what is summed over, as channels are elsewhere.
  to_kernel = lax.conv_general_dilated(
    images.transpose(3, 1, 2, 0),
    gradient.transpose(1, 2, 0, 3),
    (1, 1),
    # Such that the result has the kernel's sides.
    [
      (before, kernel_side + stride * (out_side - 1) - side - before)
      for (before, _), kernel_side, out_side, side in zip(
        pads,
        kernel.shape[:2],
        gradient.shape[1:3],
        images.shape[1:3],
        strict=True,
      )
    ],
    rhs_dilation=(stride, stride),
    dimension_numbers=_DIMENSIONS,
  )
  return to_images, to_kernel.transpose(1, 2, 0, 3)


conv.defvjp(_conv_forward, _conv_backward)


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


def max_pool_2x2(images: jax.Array) -> jax.Array:
  """Max-pooling over 2 x 2 windows, stride 2; an odd last row is dropped.

  Args:
    images: [B, H, W, C].

  Returns:
    [B, H // 2, W // 2, C].
  """
  return _max_pool(images, images.shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(images, size):
  return _maximum(_corners(images, size))


def _max_pool_forward(images, size):
  corners = _corners(images, size)
  return _maximum(corners), _place_of_maximum(corners)


def _max_pool_backward(size, places, gradient):
  # [B, H // 2, 2, W // 2, 2, C], a row's and a column's two pixels apart.
  blocks = _to_places(gradient, places, axes=(2, 4))
  batch, height, _, width, _, channels = blocks.shape
  pixels = blocks.reshape(batch, 2 * height, 2 * width, channels)
  rest = ((0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0))
  return (jnp.pad(pixels, rest),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _corners(images, size):
  height, width = size[0] // 2 * 2, size[1] // 2 * 2
  return [
    images[:, row:height:2, column:width:2]
    for row in (0, 1)
    for column in (0, 1)
  ]


def _maximum(four: Sequence[jax.Array]) -> jax.Array:
  return jnp.maximum(
    jnp.maximum(four[0], four[1]), jnp.maximum(four[2], four[3])
  )


def _place_of_maximum(four: Sequence[jax.Array]) -> jax.Array:
  """0 to 3, uint8; of equal ones the first, as reduce_window's gradient does.

  It is kept for the backward pass, in a quarter of the memory of the pixels.
  """
  upper, lower = jnp.maximum(four[0], four[1]), jnp.maximum(four[2], four[3])
  in_upper = (four[1] > four[0]).astype(jnp.uint8)
  in_lower = 2 + (four[3] > four[2]).astype(jnp.uint8)
  return jnp.where(lower > upper, in_lower, in_upper)


def _to_places(gradient, places, *, axes):
  """The gradient at the places of the maxima, and 0 elsewhere.

  Args:
    gradient: of any shape.
    places: of that shape, 0 to 3.
    axes: the two axes of size 2 to add.
  """
  gradient, places = (jnp.expand_dims(x, axes) for x in (gradient, places))
  shape = [2 if axis in axes else 1 for axis in range(gradient.ndim)]
  four = jnp.arange(4, dtype=jnp.uint8).reshape(shape)
  return jnp.where(places == four, gradient, jnp.zeros((), gradient.dtype))


def conv_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """A 'VALID' convolution of images of few channels, then `max_pool_2x2`.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].

  Returns:
    [B, (H - kernel_height + 1) // 2, (W - kernel_width + 1) // 2, features].
  """
  if onednn.is_available(images.dtype):
    return max_pool_2x2(conv(images, kernel, 1, _NO_PADS))
  return _conv_max_pool_by_phases(images, kernel)


def _conv_max_pool_by_phases(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """Folds 2 x 2 pixels into channels, so that a pool is over channels.

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
  pixels = conv(blocks, jnp.concatenate(phases, axis=-1), 1, _NO_PADS)
  return _max_over_groups(pixels.reshape(*pixels.shape[:3], 2, 2, features))


@jax.custom_vjp
def _max_over_groups(blocks):
  return _maximum(_groups(blocks))


def _max_over_groups_forward(blocks):
  groups = _groups(blocks)
  return _maximum(groups), _place_of_maximum(groups)


def _max_over_groups_backward(places, gradient):
  return (_to_places(gradient, places, axes=(3, 4)),)


_max_over_groups.defvjp(_max_over_groups_forward, _max_over_groups_backward)


def _groups(blocks):
  """The four [B, H, W, C] of [B, H, W, 2, 2, C]."""
  return [blocks[:, :, :, row, column] for row in (0, 1) for column in (0, 1)]


def channel_sums(
  images: jax.Array, factors: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sums over all pixels of `images`, and of `images * factors`.

  XLA sums over all but the last axis one element at a time. This adds up rows
  an image at a time, and their columns last; it is 3 to 6 times faster.

  Args:
    images: [B, H, W, C].
    factors: [B, H, W, C].

  Returns:
    Two arrays [C], float32.
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
