"""The layers that networks are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import layers
from genre_flax.ops import ops
from tests.support import forms as support


@pytest.mark.parametrize('channels', [3, 8])
def test_conv_max_pool_module_is_conv_bias_relu_pool(channels):
  images = support.random_array(0, (2, 11, 10, channels))
  module = layers.ConvMaxPool(features=4, kernel_size=3)
  params = module.init(jax.random.key(1), images)
  params['params']['bias'] = jnp.array([0.5, -0.5, 0.0, 1.0])
  kernel = params['params']['kernel']
  expected = ops._max_pool(
    jax.nn.relu(
      ops._conv(images, kernel, 1, 'VALID') + params['params']['bias']
    )
  )
  np.testing.assert_allclose(module.apply(params, images), expected, atol=1e-5)


def test_channel_statistics_are_means_and_deviations():
  images = 3 + 2 * support.random_array(0, (2, 9, 7, 4), jnp.bfloat16)
  got = layers.channel_statistics(images)
  exact = np.asarray(images, np.float64)
  expected = np.concatenate([exact.mean((1, 2)), exact.std((1, 2))], axis=-1)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_channel_statistics_of_one_value_have_a_gradient():
  def loss(images):
    return layers.channel_statistics(images).sum()

  gradient = jax.grad(loss)(jnp.ones((1, 4, 4, 2)))
  np.testing.assert_allclose(gradient, 1 / 16, atol=1e-6)


@pytest.mark.parametrize(
  'kernel_size, stride', [(1, 1), (1, 2), (3, 1), (3, 2)]
)
def test_conv_module_pads_as_same(kernel_size, stride):
  images = support.random_array(0, (2, 9, 8, 3))
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
