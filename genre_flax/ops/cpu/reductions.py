"""Sums of columns for CPU: the numbers of `forms`, several times faster.

XLA sums over all but the last axis one element at a time. A matrix product with
a row of ones has the same numbers in a tenth of the time.
"""

import jax
import jax.numpy as jnp

from genre_flax.ops.cpu import onednn


def column_sums(x: jax.Array) -> jax.Array:
  """Sums over all but the last axis.

  Args:
    x: [..., C].

  Returns:
    float32 [C].
  """
  rows = x.reshape(-1, x.shape[-1])
  ones = jnp.ones((1, rows.shape[0]), x.dtype)
  if onednn.is_available(x.dtype):
    return onednn.matmul(ones, rows, dtype=jnp.float32)[0]
  return jnp.matmul(ones, rows, preferred_element_type=jnp.float32)[0]


def channel_sums(
  x: jax.Array, factors: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sums over all but the last axis of `x`, and of `x * factors`.

  Args:
    x: [..., C].
    factors: [..., C].

  Returns:
    Two arrays [C], float32.
  """
  products = x.astype(jnp.float32) * factors.astype(jnp.float32)
  return column_sums(x), column_sums(products)


@jax.custom_vjp
def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
  """`x + bias`, for x [..., C] and bias [C]."""
  return x + bias


def _add_bias_forward(x, bias):
  return x + bias, None


def _add_bias_backward(saved, gradient):
  del saved
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


def _channel_affine_backward(saved, gradient):
  x, scale = saved
  to_shift, to_scale = channel_sums(gradient, x)
  return (
    gradient * scale,
    to_scale.astype(scale.dtype),
    to_shift.astype(scale.dtype),
  )


channel_affine.defvjp(_channel_affine_forward, _channel_affine_backward)
