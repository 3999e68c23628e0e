"""Convolutions with fewer multiplications: the same numbers, as exact."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.ops import ops
from genre_flax.ops.cpu import conv_pool as cpu_conv_pool
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import winograd as cpu_winograd
from tests.support import forms as support

pytestmark = pytest.mark.usefixtures('with_onednn')


@pytest.mark.parametrize('taps', cpu_winograd.KERNEL_HEIGHTS)
def test_the_sums_of_products_are_a_convolution(taps):
  matrices = cpu_winograd.transforms(taps)
  num = len(matrices.images)
  rng = np.random.default_rng(0)
  rows, kernel = rng.standard_normal(num), rng.standard_normal(taps)
  products = (matrices.kernel @ kernel) * (matrices.images @ rows)
  expected = np.correlate(rows, kernel, 'valid')
  # 8 products for 4 rows of 5 taps, which are 20.
  assert num == len(expected) + taps - 1
  np.testing.assert_allclose(matrices.outputs.T @ products, expected, rtol=1e-9)


@pytest.mark.parametrize('taps', cpu_winograd.KERNEL_HEIGHTS)
def test_the_sums_of_rows_stay_of_the_size_of_rows(taps):
  matrices = cpu_winograd.transforms(taps)
  # Else float32 would lose digits in them.
  assert np.abs(matrices.images).sum(axis=1).max() < 8


@pytest.mark.parametrize('height, width', [(6, 6), (20, 9), (23, 18)])
@pytest.mark.parametrize(
  'kernel_shape', [(5, 5, 6, 8), (5, 2, 6, 8), (4, 5, 6, 3)]
)
def test_it_is_a_convolution_and_a_pool(height, width, kernel_shape):
  images = support.random_array(0, (2, height, width, 6))
  kernel = support.random_array(1, kernel_shape)
  support.assert_same(
    cpu_winograd.conv_max_pool,
    lambda x, k: ops._max_pool(ops._conv(x, k, 1, 'VALID')),
    images,
    kernel,
  )


def test_it_is_as_exact_as_float32_is():
  images = support.random_array(0, (2, 28, 28, 32))
  kernel = support.random_array(1, (5, 5, 32, 16))
  windows = np.lib.stride_tricks.sliding_window_view(
    np.asarray(images, np.float64), (5, 5), axis=(1, 2)
  )
  exact = np.einsum(
    'bhwcyx,yxcf->bhwf', windows, np.asarray(kernel, np.float64)
  )
  exact = exact.reshape(2, 12, 2, 12, 2, 16).max(axis=(2, 4))
  got = np.asarray(jax.jit(cpu_winograd.conv_max_pool)(images, kernel))
  error = np.sqrt(np.mean((got - exact) ** 2) / np.mean(exact**2))
  assert error < 2e-6  # 16 times the distance of two numbers of float32.


@pytest.mark.parametrize(
  ('dtype', 'channels', 'kernel_size', 'num_convolutions'),
  [
    (jnp.float32, 8, 5, 8),
    (jnp.float32, 8, 4, 7),
    (jnp.float32, 8, 3, 1),  # Saves too little.
    (jnp.float32, 3, 5, 1),  # Too few channels for a product.
    (jnp.bfloat16, 8, 5, 1),  # Too few digits for sums of rows.
  ],
)
def test_where_it_is_chosen(dtype, channels, kernel_size, num_convolutions):
  if not onednn.is_available(dtype):
    pytest.skip(f'oneDNN does not compute {dtype.__name__} on this machine')
  lowered = jax.jit(cpu_conv_pool.conv_max_pool).lower(
    jax.ShapeDtypeStruct((2, 16, 16, channels), dtype),
    jax.ShapeDtypeStruct((kernel_size, kernel_size, channels, 4), dtype),
  )
  assert lowered.as_text().count('__onednn$convolution') == num_convolutions


def test_its_gradients_in_a_loop_are_those_without():
  # As in gradient accumulation.
  images = support.random_array(0, (3, 2, 18, 17, 8))
  kernel = support.random_array(1, (5, 5, 8, 8))

  def gradient(part):
    return jax.grad(
      lambda k: jnp.square(cpu_winograd.conv_max_pool(part, k)).sum()
    )(kernel)

  in_loop = jax.jit(functools.partial(jax.lax.map, gradient))(images)
  np.testing.assert_allclose(
    in_loop[1], jax.jit(gradient)(images[1]), rtol=1e-4, atol=1e-2
  )


def test_what_many_sums_need_is_worked_out_once():
  images = support.random_array(0, (2, 18, 17, 8))
  kernel = support.random_array(1, (5, 5, 8, 8))
  gradients = jax.jit(
    jax.grad(
      lambda x, k: jnp.square(cpu_winograd.conv_max_pool(x, k)).sum(), (0, 1)
    )
  )
  program = gradients.lower(images, kernel).compile().as_text()
  # The places of the maxima of two rows of windows, by three comparisons each;
  # eight sums need them, for the images and for the kernel.
  assert program.count('direction=GT') == 2 * 3
