"""Winograd convolutions; kernels_test.py compares them with the reference."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.ops.cpu import conv_pool
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import winograd
from tests.support import numerics

pytestmark = pytest.mark.usefixtures('with_onednn')


@pytest.mark.parametrize('taps', winograd.KERNEL_HEIGHTS)
def test_transforms_compute_a_convolution(taps):
  matrices = winograd.transforms(taps)
  num = len(matrices.images)
  rng = np.random.default_rng(0)
  rows, kernel = rng.standard_normal(num), rng.standard_normal(taps)
  products = (matrices.kernel @ kernel) * (matrices.images @ rows)
  expected = np.correlate(rows, kernel, 'valid')
  assert num == len(expected) + taps - 1
  np.testing.assert_allclose(matrices.outputs.T @ products, expected, rtol=1e-9)
  # Larger sums of rows would lose digits in float32.
  assert np.abs(matrices.images).sum(axis=1).max() < 8


def test_error_is_a_few_float32_epsilons():
  images = numerics.random_array(0, (2, 28, 28, 32))
  kernel = numerics.random_array(1, (5, 5, 32, 16))
  windows = np.lib.stride_tricks.sliding_window_view(
    np.asarray(images, np.float64), (5, 5), axis=(1, 2)
  )
  exact = np.einsum(
    'bhwcyx,yxcf->bhwf', windows, np.asarray(kernel, np.float64)
  )
  exact = exact.reshape(2, 12, 2, 12, 2, 16).max(axis=(2, 4))
  got = np.asarray(jax.jit(winograd.conv_max_pool)(images, kernel))
  error = np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2))
  assert error < 2e-6  # 16 epsilons.


@pytest.mark.parametrize(
  'dtype, channels, kernel_size, num_convolutions',
  [
    (jnp.float32, 8, 5, 8),
    (jnp.float32, 8, 4, 7),
    (jnp.float32, 8, 3, 1),  # Saves too little.
    (jnp.float32, 3, 5, 1),  # Too few channels for a product.
    (jnp.bfloat16, 8, 5, 1),  # Too little precision for sums of rows.
  ],
)
def test_chosen_for_high_kernels_and_many_channels_in_float32(
  dtype, channels, kernel_size, num_convolutions
):
  if not onednn.is_available(dtype):
    pytest.skip(onednn.describe(dtype))
  lowered = jax.jit(conv_pool.conv_max_pool).lower(
    jax.ShapeDtypeStruct((2, 16, 16, channels), dtype),
    jax.ShapeDtypeStruct((kernel_size, kernel_size, channels, 4), dtype),
  )
  assert lowered.as_text().count('__onednn$convolution') == num_convolutions


def test_gradients_inside_a_loop():
  # As in gradient accumulation.
  images = numerics.random_array(0, (3, 2, 18, 17, 8))
  kernel = numerics.random_array(1, (5, 5, 8, 8))

  def gradient(part):
    return jax.grad(
      lambda k: jnp.square(winograd.conv_max_pool(part, k)).sum()
    )(kernel)

  in_loop = jax.jit(functools.partial(jax.lax.map, gradient))(images)
  np.testing.assert_allclose(
    in_loop[1], jax.jit(gradient)(images[1]), rtol=1e-4, atol=1e-2
  )
