"""CPU kernels compute the values and gradients of the references."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from genre_flax.ops import ops
from genre_flax.ops.cpu import pool
from tests.support import numerics

# bfloat16 has 8 bits of precision.
_ATOL = {'float32': 1e-5, 'bfloat16': 0.02}


@pytest.mark.parametrize('height, width', [(8, 8), (9, 12), (7, 5), (2, 3)])
def test_max_pool(height, width):
  # Small integers: of equal pixels, the first one gets the gradient.
  images = jnp.round(numerics.random_array(0, (3, height, width, 4)))
  numerics.assert_same_function(
    pool.max_pool_2x2,
    lambda x: nn.max_pool(x, (2, 2), strides=(2, 2)),
    images,
  )


@pytest.mark.parametrize(
  'kernel_shape, height, width',
  [
    ((1, 1, 3), 12, 12),
    ((3, 3, 6), 11, 14),
    ((4, 4, 3), 12, 12),
    ((4, 4, 3), 11, 14),
    ((5, 5, 3), 11, 14),
    ((5, 5, 6), 12, 12),
    ((5, 5, 6), 11, 14),
    ((5, 5, 6), 9, 8),
    ((5, 5, 6), 6, 6),
    ((5, 2, 6), 11, 14),
    ((5, 2, 6), 6, 6),
  ],
)
def test_conv_max_pool(kernel_shape, height, width, library):
  numerics.assert_kernel_matches_reference(
    ops.conv_max_pool,
    numerics.random_array(0, (2, height, width, kernel_shape[-1])),
    numerics.random_array(1, (*kernel_shape, 5)),
    atol=1e-4,
  )


@pytest.mark.parametrize(
  'dtype, activation',
  [
    ('float32', None),
    ('float32', 'relu'),
    ('float32', 'relu6'),
    ('bfloat16', ''),
  ],
)
@pytest.mark.parametrize(
  'kernel_shape, stride',
  [
    ((1, 1, 4, 6), 2),
    ((3, 3, 4, 6), 1),
    ((3, 3, 4, 6), 2),
    ((4, 4, 4, 6), 3),
    ((5, 5, 4, 6), 1),
    ((5, 5, 1, 4), 1),
    ((5, 5, 1, 4), 2),
  ],
)
@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
def test_conv(kernel_shape, stride, padding, dtype, activation, library):
  """Without bias and activation if that is None."""
  options = {'stride': stride, 'padding': padding}
  shapes = [(2, 8, 7, 4), kernel_shape]
  if activation is not None:
    options['activation'] = activation
    shapes.append(kernel_shape[-1:])
  numerics.assert_kernel_matches_reference(
    functools.partial(ops.conv, **options),
    *(numerics.random_array(n, shape, dtype) for n, shape in enumerate(shapes)),
    atol={'float32': 1e-4, 'bfloat16': 0.02}[dtype],
  )


@pytest.mark.parametrize('dtype', _ATOL)
def test_dense(dtype, library):
  x = numerics.random_array(0, (2, 5, 4, 6), dtype)
  kernel = numerics.random_array(1, (6, 7), dtype)
  numerics.assert_kernel_matches_reference(
    ops.dense, x, kernel, atol=_ATOL[dtype]
  )
  numerics.assert_kernel_matches_reference(
    lambda x, kernel: jax.vmap(lambda row: ops.dense(row, kernel))(x),
    x,
    kernel,
    atol=_ATOL[dtype],
  )


@pytest.mark.parametrize('dtype', _ATOL)
def test_attention(dtype, library):
  numerics.assert_kernel_matches_reference(
    ops.dot_product_attention,
    *(
      numerics.random_array(n, (2, size, 3, 8), dtype)
      for n, size in enumerate((4, 6, 6))
    ),
    atol=_ATOL[dtype],
  )


@pytest.mark.parametrize('dtype', _ATOL)
@pytest.mark.parametrize('shape', [(2, 3, 4, 5), (1, 7, 1, 2), (7, 6)])
def test_channels(dtype, shape, library):
  x = numerics.random_array(0, shape, dtype)
  scale, shift = (numerics.random_array(n, shape[-1:], dtype) for n in (1, 2))
  for function, *arguments in (
    (ops.channel_affine, x, scale, shift),
    (ops.add_bias, x, shift),
    (lambda x: jnp.concatenate(ops.channel_moments(x)).astype(dtype), x),
  ):
    numerics.assert_kernel_matches_reference(
      function, *arguments, atol=_ATOL[dtype]
    )
