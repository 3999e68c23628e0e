"""All forms of a layer compute the same numbers, and the same gradients."""

import functools

import flax.linen as nn
import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import cpu_forms
from genre_flax.models import layers
from genre_flax.models import onednn


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


@pytest.fixture(params=['onednn', 'xla'])
def cpu_convolution(request, monkeypatch):
  """Runs a test once with oneDNN's convolutions and once with XLA's."""
  if request.param == 'xla':
    monkeypatch.setenv('GENRE_FLAX_ONEDNN', '0')
    yield
    return
  folder = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  compilation_cache.reset_cache()
  try:
    if not onednn.is_available():
      pytest.skip('oneDNN is not used with this jaxlib, or on this machine')
    yield
  finally:
    jax.config.update('jax_compilation_cache_dir', folder)
    compilation_cache.reset_cache()


def plain_conv_max_pool(images, kernel):
  return layers._max_pool(layers._conv(images, kernel, 1, 'VALID'))


@pytest.mark.parametrize('height, width', [(8, 8), (9, 12), (7, 5), (2, 3)])
def test_max_pool_on_cpu_is_max_pool(height, width):
  images = random_array(0, (3, height, width, 4))
  assert_same(cpu_forms.max_pool_2x2, layers._max_pool, images)


def test_of_equal_pixels_the_first_gets_the_gradient_of_a_max_pool():
  images = jnp.zeros((1, 4, 6, 2)).at[0, 1, 1].set(-1.0).at[0, 0, 2].set(-1.0)
  assert_same(cpu_forms.max_pool_2x2, layers._max_pool, images)


@pytest.mark.parametrize('kernel_size', [1, 3, 4, 5])
@pytest.mark.parametrize('height, width', [(12, 12), (11, 14), (9, 8)])
def test_conv_max_pool_on_cpu_is_conv_then_max_pool(
  kernel_size, height, width, cpu_convolution
):
  images = random_array(0, (2, height, width, 3))
  kernel = random_array(1, (kernel_size, kernel_size, 3, 5))
  assert_same(
    cpu_forms.conv_max_pool, plain_conv_max_pool, images, kernel, atol=1e-4
  )


@pytest.mark.parametrize('padding', ['VALID', 'SAME'])
@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('kernel_size', [3, 4, 5])
@pytest.mark.parametrize('height, width', [(12, 11), (8, 9)])
def test_conv_on_cpu_is_a_convolution(
  padding, stride, kernel_size, height, width, cpu_convolution
):
  images = random_array(0, (2, height, width, 3))
  kernel = random_array(1, (kernel_size, kernel_size, 3, 4))
  pads = layers._pads(images, kernel, stride, padding)
  assert_same(
    lambda x, k: cpu_forms.conv(x, k, stride, pads),
    lambda x, k: layers._conv(x, k, stride, padding),
    images,
    kernel,
    atol=1e-4,
  )


def test_onednn_runs_what_the_models_ask_for(cpu_convolution):
  lowered = jax.jit(functools.partial(layers.conv, padding='VALID')).lower(
    jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
  )
  text = lowered.as_text()
  assert ('__onednn$convolution' in text) == onednn.is_available()


def test_onednn_is_not_used_with_a_compilation_cache():
  assert jax.config.jax_compilation_cache_dir
  assert not onednn.is_available()


def test_onednn_is_not_used_for_bfloat16(cpu_convolution):
  assert not onednn.is_available(jnp.bfloat16)
  images = random_array(0, (2, 9, 8, 3), jnp.bfloat16)
  kernel = random_array(1, (3, 3, 3, 4), jnp.bfloat16)
  out = cpu_forms.conv(images, kernel, 1, ((0, 0), (0, 0)))
  assert out.dtype == jnp.bfloat16


def test_conv_valid_worked_out_by_hand():
  images = jnp.arange(9.0).reshape(1, 3, 3, 1)
  kernel = jnp.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
  out = layers.conv(images, kernel, padding='VALID')
  # Every pixel minus its neighbour below and to the right: always -4.
  np.testing.assert_array_equal(out, np.full((1, 2, 2, 1), -4.0))


def test_pointwise_conv_is_a_convolution():
  images, kernel = random_array(0, (2, 5, 4, 6)), random_array(1, (1, 1, 6, 3))
  assert_same(
    layers.pointwise_conv,
    lambda x, k: layers._conv(x, k, 1, 'VALID'),
    images,
    kernel,
  )


@pytest.mark.parametrize('channels', [3, 8])
def test_conv_max_pool_module_is_conv_bias_relu_pool(channels):
  images = random_array(0, (2, 11, 10, channels))
  module = layers.ConvMaxPool(features=4, kernel_size=3)
  params = module.init(jax.random.key(1), images)
  params['params']['bias'] = jnp.array([0.5, -0.5, 0.0, 1.0])
  kernel = params['params']['kernel']
  expected = layers._max_pool(
    jax.nn.relu(
      layers._conv(images, kernel, 1, 'VALID') + params['params']['bias']
    )
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
  x = random_array(0, (8, 2, 2, 2, 6)) * 3 + 1
  norm = layers.BatchNorm(use_batch_statistics=True, axis_name='batch')
  variables = norm.init(jax.random.key(0), x[0])

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


@pytest.mark.parametrize('shape', [(3, 4, 5, 6), (1, 7, 1, 2)])
def test_channel_sums_by_image_are_sums(shape):
  images, factors = random_array(0, shape), random_array(1, shape)
  got = cpu_forms.channel_sums(images, factors)
  expected = layers._channel_sums(images, factors)
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_channel_affine_and_its_gradients():
  def plain(images, scale, shift):
    return images * scale + shift

  arguments = (
    random_array(0, (2, 3, 4, 5)),
    random_array(1, (5,)),
    random_array(2, (5,)),
  )
  assert_same(layers.channel_affine, plain, *arguments)


def test_channel_moments_and_their_gradients():
  def both(moments):
    return lambda images: jnp.concatenate(moments(images))

  def plain(images):
    return images.mean(axis=(0, 1, 2)), (images**2).mean(axis=(0, 1, 2))

  assert_same(
    both(layers.channel_moments), both(plain), random_array(0, (2, 3, 4, 5))
  )


@pytest.mark.parametrize('use_batch_statistics', [True, False])
def test_batch_norm_is_flaxs_with_all_gradients(use_batch_statistics):
  images = random_array(0, (4, 3, 5, 6)) * 2 + 1
  ours = layers.BatchNorm(use_batch_statistics=use_batch_statistics)
  flaxs = nn.BatchNorm(
    use_running_average=not use_batch_statistics, momentum=0.9, epsilon=1e-3
  )
  variables = {
    'params': {
      'scale': 1 + random_array(1, (6,)),
      'bias': random_array(2, (6,)),
    },
    'batch_stats': {
      'mean': random_array(3, (6,)),
      'var': 1 + random_array(4, (6,)) ** 2,
    },
  }

  def run(module):
    def loss(params, images):
      out, changed = module.apply(
        {**variables, 'params': params}, images, mutable=['batch_stats']
      )
      weights = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
      return (out * weights).sum(), (out, changed)

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
      variables['params'], images
    )

  (_, (out, changed)), gradients = run(ours)
  (_, (expected, expected_changed)), expected_gradients = run(flaxs)
  np.testing.assert_allclose(out, expected, atol=1e-4)
  for got, wanted in (
    (changed, expected_changed),
    (gradients, expected_gradients),
  ):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [3, 5])
@pytest.mark.parametrize('height, width', [(8, 8), (7, 10), (5, 3)])
def test_depthwise_conv_on_cpu_is_a_grouped_convolution(
  size, stride, height, width, cpu_convolution
):
  images = random_array(0, (2, height, width, 4))
  kernel = random_array(1, (size, size, 1, 4))
  pads = layers._pads(images, kernel, stride, 'SAME')
  assert_same(
    lambda x, k: cpu_forms.depthwise_conv(x, k, stride, pads),
    lambda x, k: layers._conv(x, k, stride, 'SAME', groups=4),
    images,
    kernel,
  )


def test_stochastic_depth_drops_whole_examples():
  inputs = jnp.ones((2000, 3, 2))

  def apply(*, deterministic):
    return layers.StochasticDepth(0.25).apply(
      {},
      inputs,
      deterministic=deterministic,
      rngs={'dropout': jax.random.key(0)},
    )

  out = np.asarray(apply(deterministic=False))
  assert (out == out[:, :1, :1]).all()
  assert set(np.unique(out)) == {np.float32(0), np.float32(4 / 3)}
  # Standard error of the share over 2,000 examples: 0.01.
  assert (out[:, 0, 0] == 0).mean() == pytest.approx(0.25, abs=0.04)
  assert apply(deterministic=True) is inputs
