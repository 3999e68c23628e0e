"""Tests of genre_flax/ops/ops.py; CPU kernels are in cpu/kernels_test.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.ops import ops
from genre_flax.runtime import target
from tests.support import numerics


@pytest.mark.parametrize('kernel_size, stride', [(1, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize('is_depthwise', [False, True])
def test_conv_matches_lax(kernel_size, stride, is_depthwise):
  images = numerics.random_array(0, (2, 9, 8, 4))
  shape = (kernel_size, kernel_size, *((1, 4) if is_depthwise else (4, 6)))

  def conv(images, kernel):
    with target.traced_for(target.PORTABLE):
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
  traced = []
  for platform in ('cpu', 'tpu', target.PORTABLE):
    with target.traced_for(platform):
      # JAX caches traces per platform.
      traced.append(str(jax.make_jaxpr(function)(images)))
      got = jax.tree.leaves(jax.jit(function)(images))
    for a, b in zip(got, expected, strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)
  assert traced[0] not in traced[1:]
  assert 'custom_vjp' not in traced[2]
  assert not any('platform_index' in jaxpr for jaxpr in traced)
  assert str(jax.make_jaxpr(function)(images)) == both


def test_central_crop_against_hand_computed_rows():
  images = np.random.default_rng(0).uniform(0, 255, (2, 12, 10, 3))
  np.testing.assert_allclose(ops.central_crop(images, 1.0), images, atol=1e-4)
  # 12 rows of 0, 1, ... 11; the middle half is rows 3 to 8, whose pixel centers
  # are 3.5 to 8.5; every output pixel is half a row.
  rows = np.arange(12.0)[None, :, None, None] * np.ones((2, 12, 10, 3))
  expected = 3 + (np.arange(12) + 0.5) / 2 - 0.5
  crops = np.asarray(ops.central_crop(rows, 0.5))
  assert crops.shape == (2, 12, 10, 3)
  np.testing.assert_allclose(crops[1, :, 4, 2], expected, atol=1e-5)
  columns = np.swapaxes(rows, 1, 2)
  crops = np.asarray(ops.central_crop(columns, 0.5))
  np.testing.assert_allclose(crops[0, 7, :, 1], expected, atol=1e-5)
