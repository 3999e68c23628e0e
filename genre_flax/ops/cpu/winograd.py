"""Convolution with max-pooling for CPU, by Winograd's minimal filtering.

Winograd, 1980, 'Arithmetic Complexity of Computations'; for networks, Lavin &
Gray, 2016, 'Fast Algorithms for Convolutional Neural Networks'. It is applied
along the height only. Four output rows of a convolution with a kernel of five
rows are sums of 8 products instead of 20. Each product is a convolution along
the width by oneDNN, of a sum of image rows and a sum of kernel rows. In both
directions, there would be fewer multiplications, but more memory traffic and a
larger error. In one, the relative error is about 1e-6, twice the reference's.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
from jax import lax
from jax.experimental import xla_metadata
import jax.numpy as jnp
import numpy as np

from genre_flax.ops.cpu import conv as cpu_conv
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import pool as cpu_pool

# Output rows per tile. More rows need fewer multiplications, but round more.
_TILE = 4
# Lower kernels save too little. Higher ones read beyond the next tile, and need
# more points, which round more.
KERNEL_HEIGHTS = (4, 5)
# Evaluation points of the polynomials, besides infinity.
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
_NO_PADS = ((0, 0), (0, 0))


class Transforms(NamedTuple):
  """The matrices of minimal filtering for n products, float64."""

  outputs: np.ndarray  # [n, _TILE], A of Lavin & Gray.
  kernel: np.ndarray  # [n, taps], G.
  images: np.ndarray  # [n, n], the transpose of B.


@functools.cache
def transforms(taps: int) -> Transforms:
  """The matrices for a kernel of `taps` rows, by the Toom-Cook method.

  With n = _TILE + taps - 1 image rows d and kernel rows g, the output rows are
  outputs^T ((kernel g) * (images d)), equation 6 of Lavin & Gray.
  """
  num = _TILE + taps - 1

  def evaluate(length):
    """Powers of each point, [num, length]; the highest one for infinity."""
    powers = np.vander(_POINTS[: num - 1], length, increasing=True)
    return np.concatenate([powers, np.eye(length)[-1:]])

  # Rounded, so that sums skip the zeros.
  images = np.linalg.inv(evaluate(num)).T.round(12)
  # Balances the two matrices, by powers of two, which are exact.
  scale = 2.0 ** np.round(np.log2(np.abs(images).max(axis=1, keepdims=True)))
  return Transforms(
    outputs=evaluate(_TILE),
    kernel=evaluate(taps) * scale,
    images=images / scale,
  )


def conv_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """'VALID' convolution, then max-pooling over 2 x 2 pixels.

  Args:
    images: float32 [B, H, W, C].
    kernel: float32 [kernel_height, kernel_width, C, features], with a height in
      KERNEL_HEIGHTS.

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
  """Convolves sums of image rows with sums of kernel rows.

  Args:
    images: [B, H, W, C].
    kernels: a list of [1, kernel_width, C, features].
    tiles: number of tiles.
    width: columns of the images to read.

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


def _products_backward(tiles, width, residuals, gradients):
  images, kernels = residuals
  _, vjp = jax.vjp(lambda x: _convolve_sums(x, kernels, tiles, width), images)
  # Rows are independent, so the rows of the batch can form the height of one
  # image. The gradient then is a kernel without a transpose, which would take
  # longer than it saves with the batch as channels, as in `cpu_conv`.
  channels = images.shape[-1]
  # Padded first, or each sum would check each pixel for padding.
  transposed = _channels_first(_fit(images, tiles, width))
  planes = transposed.reshape(-1, *transposed.shape[2:], 1)
  sums = _sums_of_rows(planes, tiles, width, num=len(kernels))
  d_kernels = [
    lax.conv_general_dilated(
      rows.reshape(channels, -1, width, 1),
      gradient.reshape(-1, gradient.shape[2], 1, gradient.shape[3]),
      (1, 1),
      'VALID',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    ).transpose(1, 2, 0, 3)
    for rows, gradient in zip(sums, gradients, strict=True)
  ]
  return *vjp(gradients), d_kernels


_products.defvjp(_products_forward, _products_backward)


def _channels_first(images):
  """Transposes [B, H, W, C] to [C, B, H, W].

  By a product with the identity matrix: XLA would recompute a transpose for
  each sum that reads it, which takes five times as long.
  """
  channels = images.shape[-1]
  return onednn.matmul(
    jnp.eye(channels, dtype=images.dtype),
    images.reshape(-1, channels),
    transpose_b=True,
  ).reshape(channels, *images.shape[:-1])


def _sums_of_rows(images, tiles, width, *, num):
  """Sums of image rows, one per product.

  A tile reads its own rows and the first rows of the next tile.

  Args:
    images: [B, H, W, C].
    tiles: number of tiles.
    width: columns of the images to read.
    num: number of products.

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
  """Crops images, or pads them with zeros, to the pixels that the tiles read.

  Args:
    images: [B, H, W, C].
    tiles: number of tiles.
    width: columns of the images to read.

  Returns:
    [B, (tiles + 1) * _TILE, width, C].
  """
  to_fit = ((tiles + 1) * _TILE - images.shape[1], width - images.shape[2])
  pads = ((0, 0, 0), *((0, after, 0) for after in to_fit), (0, 0, 0))
  return lax.pad(images, jnp.zeros((), images.dtype), pads)


def _sums(factors: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
  """Linear combinations of arrays, one per row of factors."""
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
  """The two pooled rows of each tile.

  Args:
    products: a list of [B, tiles, 2 w, features].
    taps: rows of the kernel.

  Returns:
    Two arrays [B, tiles, w, features].
  """
  return [cpu_pool.maximum(four) for four in _windows(products, taps)]


def _max_pool_forward(products, taps):
  indices = _materialized(
    lambda *x: [cpu_pool.argmax(four) for four in _windows(x, taps)]
  )
  windows = _windows(products, taps)
  return [cpu_pool.maximum(four) for four in windows], indices(*products)


def _max_pool_backward(taps, indices, gradients):
  products_gradient = _materialized(
    functools.partial(_products_gradient, taps=taps)
  )
  return (products_gradient(indices, gradients),)


def _materialized(function: Callable[..., Any]) -> Callable[..., Any]:
  """A function that writes its results to memory once, for all consumers.

  XLA's CPU backend drops `lax.optimization_barrier`, then fuses loops that it
  considers cheap into each consumer, and so recomputes sums of many arrays for
  each. The function becomes a call, which is neither inlined nor fused. Inside
  it, jitted functions such as `jnp.where` would become further calls; use the
  operations of `lax`.
  """
  call = jax.jit(function)

  def run(*arguments):
    with xla_metadata.set_xla_metadata(inlineable='false'):
      return call(*arguments)

  return run


def _products_gradient(indices, gradients, *, taps):
  """The gradients of the products.

  Args:
    indices: of the maxima of a tile's two rows, two arrays uint8
      [B, tiles, w, features].
    gradients: of those maxima, two arrays of that shape.
    taps: rows of the kernel.

  Returns:
    A list of [B, tiles, 2 w, features].
  """
  # [B, tiles, w, 2, features] each: pairs of pixels of a row. With
  # `cpu_pool.scatter` of both rows at once it is 5 to 10 % slower, and takes a
  # third longer to compile.
  indices = [jnp.expand_dims(x, 3) for x in indices]
  gradients = [jnp.expand_dims(x, 3) for x in gradients]
  columns = jnp.arange(2, dtype=jnp.uint8).reshape(2, 1)
  rows = []
  for index, gradient in zip(indices, gradients, strict=True):
    for row in np.arange(2, dtype=np.uint8):
      is_maximum = index == 2 * row + columns
      both = jnp.broadcast_to(gradient, is_maximum.shape)
      rows.append(lax.select(is_maximum, both, jnp.zeros_like(both)))
  sums = _sums(transforms(taps).outputs, rows)
  return [x.reshape(*x.shape[:2], -1, x.shape[-1]) for x in sums]


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def _windows(products, taps):
  """The four pixels of each window, for the two pooled rows of each tile."""
  # Columns are split before the sums; splitting them afterwards makes gradients
  # up to 8 % slower.
  factors = transforms(taps).outputs.T
  even, odd = (
    _sums(factors, [x[:, :, column::2] for x in products]) for column in (0, 1)
  )
  return [
    [pixel for row in pair for pixel in (even[row], odd[row])]
    for pair in ((0, 1), (2, 3))
  ]
