"""Tests of genre_flax/ops/ops.py; CPU kernels are in cpu/kernels_test.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.ops import ops
from genre_flax.runtime import target
from tests.support import numerics


def test_conv_against_hand_computed_values():
  images = jnp.arange(9.0).reshape(1, 3, 3, 1)
  kernel = jnp.array([[1.0, 0.0], [0.0, -1.0]]).reshape(2, 2, 1, 1)
  out = ops.conv(images, kernel, padding='VALID')
  # Each pixel minus its neighbor below and to the right is -4.
  np.testing.assert_array_equal(out, np.full((1, 2, 2, 1), -4.0))


@pytest.mark.parametrize('kernel_size, stride', [(1, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize('is_depthwise', [False, True])
@pytest.mark.parametrize('platform', ['cpu', target.PORTABLE])
def test_conv_matches_lax(kernel_size, stride, is_depthwise, platform):
  images = numerics.random_array(0, (2, 9, 8, 4))
  shape = (kernel_size, kernel_size, *((1, 4) if is_depthwise else (4, 6)))

  def conv(images, kernel):
    with target.traced_for(platform):
      return ops.conv(images, kernel, stride=stride)

  numerics.assert_same_function(
    conv,
    lambda images, kernel: jax.lax.conv_general_dilated(
      images,
      kernel,
      (stride, stride),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
      feature_group_count=4 if is_depthwise else 1,
    ),
    images,
    numerics.random_array(1, shape),
  )


@pytest.mark.parametrize(
  'function',
  [
    lambda x: ops.conv(x, jnp.ones((3, 3, 4, 4))),
    lambda x: ops.conv(x, jnp.ones((3, 3, 1, 4))),
    lambda x: ops.conv(x, jnp.ones((3, 3, 4, 5)), jnp.ones(5)),
    lambda x: ops.conv_max_pool(x, jnp.ones((3, 3, 4, 5))),
    lambda x: ops.channel_moments(x),
    lambda x: ops.channel_affine(x, jnp.ones(4), jnp.ones(4)),
    lambda x: ops.add_bias(x, jnp.ones(4)),
    lambda x: ops.dense(x, jnp.ones((4, 3))),
    lambda x: ops.dot_product_attention(x, x, x),
  ],
)
def test_only_one_implementation_is_traced_for_a_known_platform(function):
  images = numerics.random_array(0, (2, 9, 8, 4))
  both = str(jax.make_jaxpr(function)(images))
  assert 'platform_index' in both
  expected = jax.tree.leaves(jax.jit(function)(images))
  for platform in ('cpu', target.PORTABLE):
    with target.traced_for(platform):
      # JAX caches traces per platform.
      assert 'platform_index' not in str(jax.make_jaxpr(function)(images))
      got = jax.tree.leaves(jax.jit(function)(images))
    for a, b in zip(got, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
  assert str(jax.make_jaxpr(function)(images)) == both


def test_kernels_are_traced_for_cpu_only():
  images, kernel = jnp.ones((2, 9, 8, 4)), jnp.ones((3, 3, 4, 5))
  jaxprs = []
  for platform in ('cpu', 'tpu', target.PORTABLE):
    with target.traced_for(platform):
      jaxprs.append(str(jax.make_jaxpr(ops.conv_max_pool)(images, kernel)))
  cpu, tpu, portable = jaxprs
  assert cpu != tpu == portable
