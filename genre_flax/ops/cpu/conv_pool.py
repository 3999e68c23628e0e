"""Convolution with max-pooling for CPU.

Few channels without oneDNN: pooling over channel groups of a convolution over
2 x 2 blocks. Many channels with oneDNN: Winograd's minimal filtering, if its
rounding errors are small. Otherwise: the convolution, then the pooling.
"""

import jax
import jax.numpy as jnp

from genre_flax.ops.cpu import conv as cpu_conv
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import pool as cpu_pool
from genre_flax.ops.cpu import winograd as cpu_winograd

_NO_PADS = ((0, 0), (0, 0))
# More channels than this fill the vector units.
_FEW_CHANNELS = 4


def conv_max_pool(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """'VALID' convolution, then max-pooling over 2 x 2 pixels.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C, features].

  Returns:
    [B, (H - kernel_height + 1) // 2, (W - kernel_width + 1) // 2, features].
  """
  few_channels = images.shape[-1] <= _FEW_CHANNELS
  with_onednn = onednn.is_available(images.dtype)
  if few_channels and not with_onednn:
    return _conv_max_pool_by_blocks(images, kernel)
  if (
    not few_channels
    and with_onednn
    and images.dtype == jnp.float32
    and kernel.shape[0] in cpu_winograd.KERNEL_HEIGHTS
  ):
    return cpu_winograd.conv_max_pool(images, kernel)
  return cpu_pool.max_pool_2x2(cpu_conv.conv(images, kernel, 1, _NO_PADS))


def _conv_max_pool_by_blocks(images: jax.Array, kernel: jax.Array) -> jax.Array:
  """Folds 2 x 2 pixels into channels, so that the pooling is over channels.

  Output pixel (2p + a, 2q + b) of the convolution is channel group (a, b) of
  output (p, q) of a convolution over 2 x 2 blocks, whose kernel is the original
  one shifted by (a, b). Despite more multiplications by zero it is faster: four
  times as many channels fill the vector units.
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
  kernels = []
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
      kernels.append(
        shifted.reshape(blocks_high, blocks_wide, 4 * channels, features)
      )
  pixels = cpu_conv.conv(blocks, jnp.concatenate(kernels, axis=-1), 1, _NO_PADS)
  return _max_over_groups(pixels.reshape(*pixels.shape[:3], 2, 2, features))


@jax.custom_vjp
def _max_over_groups(blocks):
  return cpu_pool.maximum(_groups(blocks))


def _max_over_groups_forward(blocks):
  groups = _groups(blocks)
  return cpu_pool.maximum(groups), cpu_pool.argmax(groups)


def _max_over_groups_backward(indices, gradient):
  return (cpu_pool.scatter(gradient, indices, axes=(3, 4)),)


_max_over_groups.defvjp(_max_over_groups_forward, _max_over_groups_backward)


def _groups(blocks):
  """Splits [B, H, W, 2, 2, C] into four arrays [B, H, W, C]."""
  return [blocks[:, :, :, row, column] for row in (0, 1) for column in (0, 1)]
