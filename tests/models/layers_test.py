import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import layers
from tests.support import numerics


@pytest.mark.parametrize('channels', [3, 8])
def test_conv_max_pool_applies_bias_and_relu(channels):
  images = numerics.random_array(0, (2, 11, 10, channels))
  module = layers.ConvMaxPool(features=4, kernel_size=3)
  variables = module.init(jax.random.key(1), images)
  variables['params']['bias'] = jnp.array([0.5, -0.5, 0.0, 1.0])
  conv = jax.lax.conv_general_dilated(
    images,
    variables['params']['kernel'],
    (1, 1),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )[:, :8]  # An odd last row is dropped.
  conv = np.maximum(conv + variables['params']['bias'], 0)
  np.testing.assert_allclose(
    module.apply(variables, images),
    conv.reshape(2, 4, 2, 4, 2, 4).max(axis=(2, 4)),
    atol=1e-5,
  )


def test_channel_statistics_are_means_and_deviations():
  images = 3 + 2 * numerics.random_array(0, (2, 9, 7, 4), jnp.bfloat16)
  got = layers.channel_statistics(images)
  exact = np.asarray(images, np.float64)
  expected = np.concatenate([exact.mean((1, 2)), exact.std((1, 2))], axis=-1)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, expected, atol=1e-5)


def test_channel_statistics_of_a_constant_channel_have_a_gradient():
  gradient = jax.grad(lambda x: layers.channel_statistics(x).sum())(
    jnp.ones((1, 4, 4, 2))
  )
  np.testing.assert_allclose(gradient, 1 / 16, atol=1e-6)


def drop(module, inputs, *, deterministic=False):
  return module.apply(
    {},
    inputs,
    deterministic=deterministic,
    rngs={'dropout': jax.random.key(0)},
  )


@pytest.mark.parametrize(
  'rate, rounded',
  [(0.25, 0.25), (0.5, 0.5), (0.1, 26 / 256), (0.9999, 255 / 256)],
)
def test_dropout(rate, rounded):
  out = drop(layers.Dropout(rate), jnp.ones((200, 500)))
  # Standard error of the fraction of 100,000 elements: at most 0.0016.
  assert float((out == 0).mean()) == pytest.approx(rounded, abs=0.008)
  assert set(np.unique(out)) == {np.float32(0), np.float32(1 / (1 - rounded))}


def test_stochastic_depth_drops_whole_examples():
  out = np.asarray(drop(layers.StochasticDepth(0.25), jnp.ones((2000, 3, 2))))
  assert (out == out[:, :1, :1]).all()
  assert set(np.unique(out)) == {np.float32(0), np.float32(4 / 3)}
  # Standard error of the fraction of 2,000 examples: 0.01.
  assert (out[:, 0, 0] == 0).mean() == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize(
  'module_class', [layers.Dropout, layers.StochasticDepth]
)
def test_identity_if_deterministic_or_with_rate_0(module_class):
  inputs = jnp.ones((4, 3))
  assert drop(module_class(0.5), inputs, deterministic=True) is inputs
  assert drop(module_class(0.0), inputs) is inputs
