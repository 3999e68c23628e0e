"""Compares oneDNN's operations with NumPy. `onednn` runs this as a program.

A release or a CPU that does not support an operation may abort the process.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.ops.cpu import onednn
from genre_flax.runtime import platform


def check(dtype: str) -> None:
  """Raises AssertionError if an operation returns wrong values."""
  rng = np.random.default_rng(0)
  images, kernel = (
    rng.normal(size=(2, 9, 8, 16)),
    rng.normal(size=(3, 3, 16, 32)),
  )
  windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))
  _assert_close(
    onednn.convolution,
    (images, kernel),
    np.einsum('bhwcij,ijcf->bhwf', windows, kernel),
    dtype,
  )
  kernel, pads = rng.normal(size=(3, 3, 1, 16)), ((1, 1), (1, 1))
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(images, ((0, 0), *pads, (0, 0))), (3, 3), (1, 2)
  )[:, ::2, ::2]
  _assert_close(
    functools.partial(onednn.convolution, pads=pads, stride=2),
    (images, kernel),
    np.einsum('bhwcij,ijc->bhwc', windows, kernel[:, :, 0]),
    dtype,
  )
  a, b = rng.normal(size=(2, 33, 48)), rng.normal(size=(2, 48, 20))
  _assert_close(onednn.matmul, (a, b), a @ b, dtype)
  transposed = functools.partial(
    onednn.matmul, transpose_a=True, transpose_b=True
  )
  _assert_close(transposed, (a.swapaxes(1, 2), b.swapaxes(1, 2)), a @ b, dtype)


def _assert_close(function, arrays, expected, dtype):
  got = jax.jit(function)(*(jnp.asarray(x, dtype) for x in arrays))
  scale = np.abs(expected).max()
  np.testing.assert_allclose(
    np.asarray(got, np.float32) / scale, expected / scale, atol=0.01
  )


if __name__ == '__main__':
  platform.configure()
  check(sys.argv[1])
