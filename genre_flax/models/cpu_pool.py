"""Max-pooling for CPU: the numbers of `forms`, several times faster.

XLA's CPU backend runs `reduce_window` and its gradient far below the speed of
the machine; a maximum of four strided slices, whose place is kept for the
backward pass, is a loop along the channels.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from genre_flax.models import cpu_conv
from genre_flax.models import onednn

_NO_PADS = ((0, 0), (0, 0))


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
    return max_pool_2x2(cpu_conv.conv(images, kernel, 1, _NO_PADS))
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
  pixels = cpu_conv.conv(blocks, jnp.concatenate(phases, axis=-1), 1, _NO_PADS)
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
