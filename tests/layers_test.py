"""All forms of a layer compute the same numbers, and the same gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import layers


def random_array(seed, shape, dtype=jnp.float32):
  return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


def assert_same(form, plain, *arguments, atol=1e-5):
  """The two functions agree in value and in all gradients."""

  @functools.partial(jax.jit, static_argnums=0)
  def value_and_gradients(function, arguments):
    def scalar(*args):
      out = function(*args)
      # Weights that differ by element, so that no gradient cancels.
      return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

    numbers = tuple(range(len(arguments)))
    return jax.value_and_grad(scalar, numbers, has_aux=True)(*arguments)

  (_, value), gradients = value_and_gradients(form, arguments)
  (_, plain_value), plain_gradients = value_and_gradients(plain, arguments)
  np.testing.assert_allclose(value, plain_value, atol=atol)
  for a, b in zip(gradients, plain_gradients, strict=True):
    np.testing.assert_allclose(a, b, atol=10 * atol)


@pytest.mark.parametrize('height, width', [(8, 8), (9, 12), (7, 5), (2, 3)])
def test_max_pool_by_slices_is_max_pool(height, width):
  images = random_array(0, (3, height, width, 4))
  assert_same(layers._max_pool_by_slices, layers._max_pool_by_window, images)


@pytest.mark.parametrize('kernel_size', [1, 3, 4, 5])
@pytest.mark.parametrize('height, width', [(12, 12), (11, 14), (9, 8)])
def test_conv_max_pool_by_phases_is_conv_then_max_pool(
  kernel_size, height, width
):
  def plain(images, kernel):
    return layers._max_pool_by_window(layers.conv_valid(images, kernel))

  images = random_array(0, (2, height, width, 3))
  kernel = random_array(1, (kernel_size, kernel_size, 3, 5))
  assert_same(layers._conv_max_pool_by_phases, plain, images, kernel, atol=1e-4)


def test_conv_valid_worked_out_by_hand():
  images = jnp.arange(9.0).reshape(1, 3, 3, 1)
  kernel = jnp.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
  out = layers.conv_valid(images, kernel)
  # Every pixel minus its neighbour below and to the right: always -4.
  np.testing.assert_array_equal(out, np.full((1, 2, 2, 1), -4.0))


def test_pointwise_conv_is_a_convolution():
  images, kernel = random_array(0, (2, 5, 4, 6)), random_array(1, (1, 1, 6, 3))
  assert_same(layers.pointwise_conv, layers.conv_valid, images, kernel)


@pytest.mark.parametrize('channels', [3, 8])
def test_conv_max_pool_module_is_conv_bias_relu_pool(channels):
  images = random_array(0, (2, 11, 10, channels))
  module = layers.ConvMaxPool(features=4, kernel_size=3)
  params = module.init(jax.random.key(1), images)
  params['params']['bias'] = jnp.array([0.5, -0.5, 0.0, 1.0])
  kernel = params['params']['kernel']
  expected = layers._max_pool_by_window(
    jax.nn.relu(layers.conv_valid(images, kernel) + params['params']['bias'])
  )
  np.testing.assert_allclose(module.apply(params, images), expected, atol=1e-5)


@pytest.mark.parametrize(
  'kernel_size, stride', [(1, 1), (1, 2), (3, 1), (3, 2)]
)
def test_conv_module_pads_as_same(kernel_size, stride):
  images = random_array(0, (2, 9, 8, 3))
  module = layers.Conv(4, kernel_size, stride=stride)
  params = module.init(jax.random.key(1), images)
  expected = jax.lax.conv_general_dilated(
    images,
    params['params']['kernel'],
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  np.testing.assert_allclose(module.apply(params, images), expected, atol=1e-5)


class TestDropout:
  inputs = jnp.ones((200, 500))

  def apply(self, rate, *, deterministic=False):
    return layers.Dropout(rate).apply(
      {},
      self.inputs,
      deterministic=deterministic,
      rngs={'dropout': jax.random.key(0)},
    )

  @pytest.mark.parametrize('rate', [0.25, 0.5, 0.1])
  def test_drops_its_share_and_keeps_the_expectation(self, rate):
    out = self.apply(rate)
    # Standard error of the share over 100,000 draws: at most 0.0016.
    assert float((out == 0).mean()) == pytest.approx(rate, abs=0.008)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)

  def test_kept_elements_are_scaled(self):
    assert set(np.unique(self.apply(0.25))) == {
      np.float32(0.0),
      np.float32(256 / 192),
    }

  def test_is_the_identity_where_deterministic_or_of_rate_0(self):
    assert self.apply(0.5, deterministic=True) is self.inputs
    assert self.apply(0.0) is self.inputs


def test_batch_norm_uses_the_statistics_of_all_devices():
  x = random_array(0, (8, 4, 6)) * 3 + 1
  norm = layers.batch_norm(train=True, axis_name='batch', dtype=jnp.float32)()
  variables = layers.batch_norm(
    train=False, axis_name=None, dtype=jnp.float32
  )().init(jax.random.key(0), x[0])

  def step(x):
    return norm.apply(variables, x, mutable=['batch_stats'])

  out, changed = jax.pmap(step, axis_name='batch')(x)
  flat = np.asarray(x).reshape(-1, 6)
  mean, variance = flat.mean(axis=0), flat.var(axis=0)
  np.testing.assert_allclose(
    np.asarray(out).reshape(-1, 6),
    (flat - mean) / np.sqrt(variance + 1e-3),
    atol=1e-4,
  )
  for device in range(8):
    np.testing.assert_allclose(
      changed['batch_stats']['mean'][device], 0.1 * mean, atol=1e-5
    )
