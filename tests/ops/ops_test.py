"""All forms of an operation compute the same numbers, and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.ops import ops
from genre_flax.ops.cpu import conv as cpu_conv
from genre_flax.ops.cpu import conv_pool as cpu_conv_pool
from genre_flax.ops.cpu import matmul as cpu_matmul
from genre_flax.ops.cpu import onednn
from genre_flax.ops.cpu import pool as cpu_pool
from genre_flax.ops.cpu import reductions as cpu_sums
from genre_flax.runtime import target
from tests.support import forms as support


def plain_conv_max_pool(images, kernel):
  return ops._max_pool(ops._conv(images, kernel, 1, 'VALID'))


@pytest.mark.parametrize('height, width', [(8, 8), (9, 12), (7, 5), (2, 3)])
def test_max_pool_on_cpu_is_max_pool(height, width):
  images = support.random_array(0, (3, height, width, 4))
  support.assert_same(cpu_pool.max_pool_2x2, ops._max_pool, images)


def test_of_equal_pixels_the_first_gets_the_gradient_of_a_max_pool():
  images = jnp.zeros((1, 4, 6, 2)).at[0, 1, 1].set(-1.0).at[0, 0, 2].set(-1.0)
  support.assert_same(cpu_pool.max_pool_2x2, ops._max_pool, images)


@pytest.mark.parametrize(
  'channels, kernel_size', [(3, 1), (3, 3), (3, 4), (3, 5), (6, 3), (6, 5)]
)
@pytest.mark.parametrize('height, width', [(12, 12), (11, 14), (9, 8)])
def test_conv_max_pool_on_cpu_is_conv_then_max_pool(
  channels, kernel_size, height, width, cpu_convolution
):
  images = support.random_array(0, (2, height, width, channels))
  kernel = support.random_array(1, (kernel_size, kernel_size, channels, 5))
  support.assert_same(
    cpu_conv_pool.conv_max_pool, plain_conv_max_pool, images, kernel, atol=1e-4
  )


@pytest.mark.parametrize('padding', ['VALID', 'SAME'])
@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('kernel_size', [3, 4, 5])
@pytest.mark.parametrize('height, width', [(12, 11), (8, 9)])
def test_conv_on_cpu_is_a_convolution(
  padding, stride, kernel_size, height, width, cpu_convolution
):
  images = support.random_array(0, (2, height, width, 3))
  kernel = support.random_array(1, (kernel_size, kernel_size, 3, 4))
  pads = ops._pads(images, kernel, stride, padding)
  support.assert_same(
    lambda x, k: cpu_conv.conv(x, k, stride, pads),
    lambda x, k: ops._conv(x, k, stride, padding),
    images,
    kernel,
    atol=1e-4,
  )


def test_onednn_runs_what_the_models_ask_for(cpu_convolution):
  lowered = jax.jit(functools.partial(ops.conv, padding='VALID')).lower(
    jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
  )
  text = lowered.as_text()
  assert ('__onednn$convolution' in text) == onednn.is_available()


def test_onednn_is_not_used_with_a_compilation_cache():
  assert jax.config.jax_compilation_cache_dir
  assert not onednn.is_available()


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize(
  'kernel_shape', [(1, 1, 4, 6), (3, 3, 4, 6), (5, 5, 1, 4)]
)
@pytest.mark.parametrize('activation', ['', 'relu', 'relu6'])
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
def test_conv_bias_on_cpu_is_its_three_parts(
  activation, kernel_shape, stride, padding, cpu_convolution
):
  images = support.random_array(0, (2, 8, 7, 4))
  kernel = support.random_array(1, kernel_shape)
  bias = support.random_array(2, kernel_shape[-1:])
  pads = ops._pads(images, kernel, stride, padding)

  def plain(images, kernel, bias):
    groups = images.shape[-1] // kernel.shape[2]
    out = ops._conv(images, kernel, stride, padding, groups=groups) + bias
    return ops.ACTIVATIONS[activation](out)

  support.assert_same(
    lambda x, k, b: cpu_conv.conv_bias(x, k, b, stride, pads, activation),
    plain,
    images,
    kernel,
    bias,
    atol=1e-4,
  )


# bfloat16 has 8 bits: each form rounds its results to them.
_BFLOAT16 = {'atol': 0.02}


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize(
  'kernel_shape', [(1, 1, 4, 6), (3, 3, 4, 6), (4, 4, 4, 6), (5, 5, 1, 4)]
)
def test_conv_bias_in_bfloat16(kernel_shape, stride, padding, cpu_convolution):
  images = support.random_array(0, (2, 9, 10, 4), jnp.bfloat16)
  kernel = support.random_array(1, kernel_shape, jnp.bfloat16)
  bias = support.random_array(2, kernel_shape[-1:], jnp.bfloat16)
  pads = ops._pads(images, kernel, stride, padding)

  def plain(images, kernel, bias):
    images, kernel, bias = (
      x.astype(jnp.float32) for x in (images, kernel, bias)
    )
    groups = images.shape[-1] // kernel.shape[2]
    return ops._conv(images, kernel, stride, padding, groups=groups) + bias

  def form(images, kernel, bias):
    out = cpu_conv.conv_bias(images, kernel, bias, stride, pads, '')
    assert out.dtype == jnp.bfloat16
    return out

  support.assert_same(form, plain, images, kernel, bias, **_BFLOAT16)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_products_on_cpu_are_products(dtype, cpu_convolution):
  x = support.random_array(0, (2, 5, 4, 6), dtype)
  kernel = support.random_array(1, (6, 7), dtype)
  tolerance = _BFLOAT16 if dtype == jnp.bfloat16 else {'atol': 1e-5}
  support.assert_same(cpu_matmul.dense, jnp.dot, x, kernel, **tolerance)
  query, key, value = (
    support.random_array(n, (2, size, 3, 8), dtype)
    for n, size in enumerate((4, 6, 6))
  )
  support.assert_same(
    cpu_matmul.dot_product_attention,
    jax.nn.dot_product_attention,
    query,
    key,
    value,
    **tolerance,
  )


def test_products_can_be_mapped(cpu_convolution):
  x = support.random_array(0, (3, 5, 6))
  kernel = support.random_array(1, (6, 7))
  support.assert_same(
    lambda x, k: jax.vmap(lambda row: cpu_matmul.dense(row, k))(x),
    jnp.dot,
    x,
    kernel,
  )


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (7, 6)])
def test_a_scale_and_a_shift_of_each_channel(dtype, shape, cpu_convolution):
  x = support.random_array(0, shape, dtype)
  scale, shift = (support.random_array(n, shape[-1:], dtype) for n in (1, 2))
  tolerance = _BFLOAT16 if dtype == jnp.bfloat16 else {'atol': 1e-5}
  support.assert_same(
    cpu_sums.channel_affine,
    lambda x, factor, bias: x * factor + bias,
    x,
    scale,
    shift,
    **tolerance,
  )
  support.assert_same(cpu_sums.add_bias, jnp.add, x, shift, **tolerance)


def test_conv_valid_worked_out_by_hand():
  images = jnp.arange(9.0).reshape(1, 3, 3, 1)
  kernel = jnp.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
  out = ops.conv(images, kernel, padding='VALID')
  # Every pixel minus its neighbour below and to the right: always -4.
  np.testing.assert_array_equal(out, np.full((1, 2, 2, 1), -4.0))


def test_pointwise_conv_is_a_convolution():
  images, kernel = (
    support.random_array(0, (2, 5, 4, 6)),
    support.random_array(1, (1, 1, 6, 3)),
  )
  support.assert_same(
    ops.pointwise_conv,
    lambda x, k: ops._conv(x, k, 1, 'VALID'),
    images,
    kernel,
  )


@pytest.mark.parametrize('shape', [(3, 4, 5, 6), (1, 7, 1, 2), (8, 3)])
def test_channel_sums_by_products_are_sums(shape, cpu_convolution):
  images, factors = (
    support.random_array(0, shape),
    support.random_array(1, shape),
  )
  got = cpu_sums.channel_sums(images, factors)
  expected = ops._channel_sums(images, factors)
  for a, b in zip(got, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('size', [3, 5])
@pytest.mark.parametrize('height, width', [(8, 8), (7, 10), (5, 3)])
def test_depthwise_conv_on_cpu_is_a_grouped_convolution(
  size, stride, height, width, cpu_convolution
):
  images = support.random_array(0, (2, height, width, 4))
  kernel = support.random_array(1, (size, size, 1, 4))
  pads = ops._pads(images, kernel, stride, 'SAME')
  support.assert_same(
    lambda x, k: cpu_conv.depthwise_conv(x, k, stride, pads),
    lambda x, k: ops._conv(x, k, stride, 'SAME', groups=4),
    images,
    kernel,
  )


@pytest.mark.parametrize(
  'function',
  [
    lambda x: ops.conv(x, jnp.ones((3, 3, 4, 4)), padding='SAME'),
    lambda x: ops.conv_max_pool(x, jnp.ones((3, 3, 4, 5))),
    lambda x: ops.depthwise_conv(x, jnp.ones((3, 3, 1, 4))),
    lambda x: ops.channel_sums(x, x),
    lambda x: ops.channel_affine(x, jnp.ones(4), jnp.ones(4)),
    lambda x: ops.add_bias(x, jnp.ones(4)),
    lambda x: ops.dense(x, jnp.ones((4, 3))),
    lambda x: ops.dot_product_attention(x, x, x),
    lambda x: ops.conv_bias(
      x, jnp.ones((3, 3, 4, 5)), jnp.ones(5), padding='SAME'
    ),
  ],
)
def test_where_the_platform_is_known_its_form_alone_is_traced(function):
  images = support.random_array(0, (2, 9, 8, 4))
  in_all_forms = str(jax.make_jaxpr(function)(images))
  assert 'platform_index' in in_all_forms
  expected = jax.tree.leaves(jax.jit(function)(images))
  for platform in ('cpu', target.PORTABLE):
    with target.traced_for(platform):
      # JAX keeps what it has traced, for each platform.
      assert 'platform_index' not in str(jax.make_jaxpr(function)(images))
      got = jax.tree.leaves(jax.jit(function)(images))
    for a, b in zip(got, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
  assert str(jax.make_jaxpr(function)(images)) == in_all_forms


def test_what_is_traced_for_one_platform_is_not_for_another():
  images, kernel = jnp.ones((2, 9, 8, 4)), jnp.ones((3, 3, 4, 5))
  programs = []
  for platform in ('cpu', 'tpu', target.PORTABLE):
    with target.traced_for(platform):
      programs.append(str(jax.make_jaxpr(ops.conv_max_pool)(images, kernel)))
  on_cpu, on_tpu, anywhere = programs
  assert on_cpu != on_tpu == anywhere
