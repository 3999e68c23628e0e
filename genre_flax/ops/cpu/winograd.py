"""A convolution and its pool for CPU, with 2.5 times fewer multiplications.

Winograd's minimal filtering (Winograd, 1980, Arithmetic Complexity of
Computations; for networks: Lavin & Gray, 2016, arXiv:1509.09308), along the
height alone. Four rows of a convolution with a kernel of five are sums of eight
products, of a sum of rows of the images and a sum of rows of the kernel each,
instead of twenty. A product here is a convolution along the width, over all
channels, by oneDNN. Over both sides there would be fewer multiplications yet,
more memory to go through, and a larger error; over one it is twice that of the
plain form, some 1e-6.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from genre_flax.ops.cpu import conv as cpu_conv
from genre_flax.ops.cpu import materialize as cpu_materialize
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import pool as cpu_pool

# Rows that are worked out at once. More multiply less, and round more.
_TILE = 4
# Lower ones save too little; for higher ones a tile would see more than its own
# rows and the next one's, and points would be needed that round more.
KERNEL_HEIGHTS = (4, 5)
# Where polynomials are evaluated, and infinity.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
_NO_PADS = ((0, 0), (0, 0))


class Transforms(NamedTuple):
  """The matrices of minimal filtering, for n products; float64."""

  outputs: np.ndarray  # [n, _TILE], A of Lavin & Gray.
  kernel: np.ndarray  # [n, taps], G.
  images: np.ndarray  # [n, n], the transpose of B.


@functools.cache
def transforms(taps: int) -> Transforms:
  """The matrices for a kernel of so many rows, by Toom and Cook's method.

  With n = _TILE + taps - 1 rows d of the images and the rows g of the kernel,
  those of the convolution are outputs^T ((kernel g) * (images d)), equation 6
  of Lavin & Gray.
  """
  num = _TILE + taps - 1

  def evaluate(length):
    """[num, length]: the powers of each point; of infinity the highest."""
    powers = np.vander(_POINTS[: num - 1], length, increasing=True)
    return np.concatenate([powers, np.eye(length)[-1:]])

  # What is 0 but for rounding is left out of sums.
  images = np.linalg.inv(evaluate(num)).T.round(12)
  # A power of two goes from the one to the other: no digit is lost by it.
  scale = 2.0 ** np.round(np.log2(np.abs(images).max(axis=1, keepdims=True)))
  return Transforms(
    outputs=evaluate(_TILE),
    kernel=evaluate(taps) * scale,
    images=images / scale,
  )


def conv_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """A 'VALID' convolution, then max-pooling over 2 x 2 pixels.

  Args:
    images: float32 [B, H, W, C].
    kernel: float32 [kernel_height, kernel_width, C, features], its height one
      of KERNEL_HEIGHTS.

  Returns:
    [B, (H - kernel_height + 1) // 2, (W - kernel_width + 1) // 2, features].
  """
  taps, kernel_width = kernel.shape[:2]
  height = (images.shape[1] - taps + 1) // 2
  width = (images.shape[2] - kernel_width + 1) // 2
  products = _products(
    images,
    _sums(transforms(taps).kernel, [row[None] for row in kernel]),
    tiles=-(-2 * height // _TILE),
    width=2 * width + kernel_width - 1,
  )
  pooled = jnp.stack(_max_pool(products, taps), axis=2)
  return pooled.reshape(len(images), -1, *pooled.shape[3:])[:, :height]


def _convolve_sums(images, kernels, tiles, width):
  """Sums of rows of images, convolved by sums of rows of the kernel.

  Args:
    images: [B, H, W, C].
    kernels: a list of [1, kernel_width, C, features].
    tiles: of _TILE rows.
    width: columns of the images that are seen.

  Returns:
    A list of [B, tiles, width - kernel_width + 1, features].
  """
  sums = _sums_of_rows(images, tiles, width, num=len(kernels))
  return [
    cpu_conv.conv(rows, kernel, 1, _NO_PADS)
    for rows, kernel in zip(sums, kernels, strict=True)
  ]


_products = jax.custom_vjp(_convolve_sums, nondiff_argnums=(2, 3))


def _products_forward(images, kernels, tiles, width):
  return _products(images, kernels, tiles, width), (images, kernels)


def _products_backward(tiles, width, saved, gradients):
  images, kernels = saved
  _, pull = jax.vjp(lambda x: _convolve_sums(x, kernels, tiles, width), images)
  # Rows do not meet, so those of a batch can be the height of one image. Then
  # the gradient is a kernel as it lies in memory; with the batch in the place
  # of channels, as `cpu_conv` has it, transposing takes longer than it saves.
  channels = images.shape[-1]
  # Fitted before: the sums would each ask at each pixel whether it is padding.
  turned = _channels_first(_fit(images, tiles, width))
  planes = turned.reshape(-1, *turned.shape[2:], 1)
  sums = _sums_of_rows(planes, tiles, width, num=len(kernels))
  to_kernels = [
    lax.conv_general_dilated(
      rows.reshape(channels, -1, width, 1),
      gradient.reshape(-1, gradient.shape[2], 1, gradient.shape[3]),
      (1, 1),
      'VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    ).transpose(1, 2, 0, 3)
    for rows, gradient in zip(sums, gradients, strict=True)
  ]
  return *pull(gradients), to_kernels


_products.defvjp(_products_forward, _products_backward)


def _channels_first(images):
  """[C, B, H, W] of [B, H, W, C], in memory.

  By a product with the identity: XLA would work out a transpose anew for each
  of the sums that it goes into, and takes five times as long for all.
  """
  channels = images.shape[-1]
  return onednn.matmul(
    jnp.eye(channels, dtype=images.dtype),
    images.reshape(-1, channels),
    transpose_b=True,
  ).reshape(channels, *images.shape[:-1])


def _sums_of_rows(images, tiles, width, *, num):
  """The sums of rows of images that the products are of.

  A tile sees its own rows and the first of the next.

  Args:
    images: [B, H, W, C].
    tiles: of _TILE rows.
    width: columns of the images that are seen.
    num: of products, and so of sums.

  Returns:
    A list of [B, tiles, width, C].
  """
  fitting = _fit(images, tiles, width)
  blocks = fitting.reshape(len(images), tiles + 1, _TILE, *fitting.shape[2:])
  rows = [
    blocks[:, row // _TILE : tiles + row // _TILE, row % _TILE]
    for row in range(num)
  ]
  return _sums(transforms(num - _TILE + 1).images, rows)


def _fit(images, tiles, width):
  """Images cut, or padded with zeros, to what so many tiles of a width see.

  Args:
    images: [B, H, W, C].
    tiles: of _TILE rows.
    width: columns of the images that are seen.

  Returns:
    [B, (tiles + 1) * _TILE, width, C].
  """
  to_fit = ((tiles + 1) * _TILE - images.shape[1], width - images.shape[2])
  pads = ((0, 0, 0), *((0, after, 0) for after in to_fit), (0, 0, 0))
  return lax.pad(images, jnp.zeros((), images.dtype), pads)


def _sums(factors: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
  """Sums of arrays, each times a number, for each row of the numbers."""
  return [
    functools.reduce(
      jnp.add,
      (
        array * np.float32(factor)
        for factor, array in zip(row, arrays, strict=True)
        if factor
      ),
    )
    for row in factors
  ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_pool(products, taps):
  """The two rows that the pool of a tile has.

  Args:
    products: a list of [B, tiles, 2 w, features].
    taps: rows of the kernel.

  Returns:
    Two arrays [B, tiles, w, features].
  """
  return [cpu_pool.maximum(four) for four in _windows(products, taps)]


def _max_pool_forward(products, taps):
  places = cpu_materialize.materialized(
    lambda *x: [cpu_pool.place_of_maximum(four) for four in _windows(x, taps)]
  )
  windows = _windows(products, taps)
  return [cpu_pool.maximum(four) for four in windows], places(*products)


def _max_pool_backward(taps, places, gradients):
  to_products = cpu_materialize.materialized(
    functools.partial(_to_products, taps=taps)
  )
  return (to_products(places, gradients),)


def _to_products(places, gradients, *, taps):
  """The gradients of the products.

  Args:
    places: of the maxima of a tile's two rows, uint8 [B, tiles, w, features].
    gradients: of those maxima, two arrays of that shape.
    taps: rows of the kernel.

  Returns:
    A list of [B, tiles, 2 w, features].
  """
  # [B, tiles, w, 2, features] of each: the pixels of a row, two by two. By
  # `cpu_pool.to_places`, both rows at once and then parted, it is 5 to 10 %
  # slower, and compiled in a third more time.
  places = [jnp.expand_dims(x, 3) for x in places]
  gradients = [jnp.expand_dims(x, 3) for x in gradients]
  columns = jnp.arange(2, dtype=jnp.uint8).reshape(2, 1)
  rows = []
  for place, gradient in zip(places, gradients, strict=True):
    for row in np.arange(2, dtype=np.uint8):
      is_here = place == 2 * row + columns
      spread = jnp.broadcast_to(gradient, is_here.shape)
      # Not by jnp.where: it would be a call of its own in what is materialized.
      rows.append(lax.select(is_here, spread, jnp.zeros_like(spread)))
  sums = _sums(transforms(taps).outputs, rows)
  return [x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in sums]


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _windows(products, taps):
  """The four pixels of each window: of a tile's first rows, and of the last."""
  # Columns are parted before the sums: after them gradients are up to 8 %
  # slower.
  of_rows = transforms(taps).outputs.T
  even, odd = (
    _sums(of_rows, [x[:, :, column::2] for x in products]) for column in (0, 1)
  )
  return [
    [pixel for row in pair for pixel in (even[row], odd[row])]
    for pair in ((0, 1), (2, 3))
  ]
