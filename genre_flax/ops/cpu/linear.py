"""Matrix products for CPU, and sums over all but the last axis by them.

XLA's CPU backend computes bfloat16 products at the speed of float32 or below;
oneDNN uses the CPU's bfloat16 instructions. XLA sums over all but the last axis
element by element; a product with a row of ones takes a tenth of the time.
"""

import jax
import jax.numpy as jnp

from genre_flax.ops.cpu import onednn


@jax.custom_vjp
def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  """Matrix product, with equal batch axes.

  Args:
    a: [..., M, K].
    b: [..., K, N].

  Returns:
    [..., M, N].
  """
  return _matmul(a, b)


def _matmul_forward(a, b):
  return matmul(a, b), (a, b)


def _matmul_backward(residuals, gradient):
  a, b = residuals
  return (
    _matmul(gradient, b, transpose_b=True),
    _matmul(a, gradient, transpose_a=True),
  )


matmul.defvjp(_matmul_forward, _matmul_backward)


def _matmul(a, b, *, transpose_a=False, transpose_b=False):
  if onednn.is_available(a.dtype):
    return onednn.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
  return jnp.matmul(
    a.swapaxes(-1, -2) if transpose_a else a,
    b.swapaxes(-1, -2) if transpose_b else b,
  )


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Matrix product of x [..., C] and kernel [C, F] over the last axis."""
  rows = x.reshape(-1, x.shape[-1])
  return matmul(rows, kernel).reshape(*x.shape[:-1], kernel.shape[1])


def dot_product_attention(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """See `ops.dot_product_attention`."""
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
  scores = matmul(query, key.swapaxes(-1, -2)).astype(jnp.float32)
  weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5)
  return matmul(weights.astype(value.dtype), value).swapaxes(1, 2)


def column_sums(x: jax.Array) -> jax.Array:
  """Sums of x [..., C] over all but the last axis, float32 [C]."""
  rows = x.reshape(-1, x.shape[-1])
  ones = jnp.ones((1, rows.shape[0]), x.dtype)
  if onednn.is_available(x.dtype):
    return onednn.matmul(ones, rows, dtype=jnp.float32)[0]
  return jnp.matmul(ones, rows, preferred_element_type=jnp.float32)[0]


def channel_sums(
  x: jax.Array, factors: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Column sums of `x` and of `x * factors`, both [..., C]."""
  products = x.astype(jnp.float32) * factors.astype(jnp.float32)
  return column_sums(x), column_sums(products)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """`x + bias`, for x [..., C] and bias [C]."""
  return x + bias


def _add_bias_forward(x, bias):
  return x + bias, None


def _add_bias_backward(residuals, gradient):
  del residuals
  return gradient, column_sums(gradient).astype(gradient.dtype)


add_bias.defvjp(_add_bias_forward, _add_bias_backward)


@jax.custom_vjp
def channel_affine(
  x: jax.Array, scale: jax.Array, shift: jax.Array
) -> jax.Array:
  """`x * scale + shift`, for x [..., C], scale [C] and shift [C]."""
  return x * scale + shift


def _channel_affine_forward(x, scale, shift):
  return channel_affine(x, scale, shift), (x, scale)


def _channel_affine_backward(residuals, gradient):
  x, scale = residuals
  d_shift, d_scale = channel_sums(gradient, x)
  return (
    gradient * scale,
    d_scale.astype(scale.dtype),
    d_shift.astype(scale.dtype),
  )


channel_affine.defvjp(_channel_affine_forward, _channel_affine_backward)
