"""Max-pooling for CPU.

XLA's CPU backend is slow for `reduce_window` and its gradient. A maximum of
four strided slices, with its index stored for the backward pass, compiles to a
loop over the channels.
"""

from collections.abc import Sequence
import functools

import jax
from jax import lax
import jax.numpy as jnp


def max_pool_2x2(images: jax.Array) -> jax.Array:
  """Max-pooling over 2 x 2 pixels; an odd last row or column is dropped.

  Args:
    images: [B, H, W, C].

  Returns:
    [B, H // 2, W // 2, C].
  """
  return _max_pool(images, images.shape[1:3])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(images, size):
  return maximum(_corners(images, size))


def _max_pool_forward(images, size):
  corners = _corners(images, size)
  return maximum(corners), argmax(corners)


def _max_pool_backward(size, indices, gradient):
  # [B, H // 2, 2, W // 2, 2, C]
  blocks = scatter(gradient, indices, axes=(2, 4))
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


def maximum(four: Sequence[jax.Array]) -> jax.Array:
  """Maximum of four arrays of one shape, the pixels of each window."""
  return jnp.maximum(
    jnp.maximum(four[0], four[1]), jnp.maximum(four[2], four[3])
  )


def argmax(four: Sequence[jax.Array]) -> jax.Array:
  """Index of the maximum, uint8; the first one of equal values.

  `reduce_window`'s gradient has the same rule. The index takes a quarter of the
  memory of the pixels.
  """
  upper, lower = jnp.maximum(four[0], four[1]), jnp.maximum(four[2], four[3])
  in_upper = (four[1] > four[0]).astype(jnp.uint8)
  in_lower = 2 + (four[3] > four[2]).astype(jnp.uint8)
  # Not jnp.where, which would be a separate call in `winograd._materialized`.
  return lax.select(lower > upper, in_lower, in_upper)


def scatter(
  gradient: jax.Array, indices: jax.Array, *, axes: tuple[int, int]
) -> jax.Array:
  """The gradient at the positions of the maxima, and 0 elsewhere.

  Args:
    gradient: of any shape.
    indices: of that shape, 0 to 3.
    axes: the two axes of size 2 to add.
  """
  gradient, indices = (jnp.expand_dims(x, axes) for x in (gradient, indices))
  shape = [2 if axis in axes else 1 for axis in range(gradient.ndim)]
  four = jnp.arange(4, dtype=jnp.uint8).reshape(shape)
  return jnp.where(indices == four, gradient, jnp.zeros((), gradient.dtype))
