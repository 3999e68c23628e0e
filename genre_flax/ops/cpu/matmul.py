"""Matrix products for CPU: the numbers of `forms`, several times faster.

In bfloat16 XLA's CPU backend computes them at the speed of float32 or below;
oneDNN takes the CPU's own instructions for it.
"""

import jax
import jax.numpy as jnp

from genre_flax.ops.cpu import onednn


@jax.custom_vjp
def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
  """A product of matrices, or of as many as there are in a batch.

  Args:
    a: [..., M, K].
    b: [..., K, N], with as many axes.

  Returns:
    [..., M, N].
  """
  return _product(a, b)


def _forward(a, b):
  return matmul(a, b), (a, b)


def _backward(saved, gradient):
  a, b = saved
  return (
    _product(gradient, b, transpose_b=True),
    _product(a, gradient, transpose_a=True),
  )


matmul.defvjp(_forward, _backward)


def _product(a, b, *, transpose_a=False, transpose_b=False):
  if onednn.is_available(a.dtype):
    return onednn.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
  return jnp.matmul(
    a.swapaxes(-1, -2) if transpose_a else a,
    b.swapaxes(-1, -2) if transpose_b else b,
  )


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """A matrix product of the last axis.

  Args:
    x: [..., C].
    kernel: [C, features].

  Returns:
    [..., features].
  """
  rows = x.reshape(-1, x.shape[-1])
  return matmul(rows, kernel).reshape(*x.shape[:-1], kernel.shape[1])


def dot_product_attention(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """As in `forms`: of [B, M, heads, C] and, twice, [B, N, heads, C]."""
  query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
  scores = matmul(query, key.swapaxes(-1, -2)).astype(jnp.float32)
  shares = jax.nn.softmax(scores * query.shape[-1] ** -0.5)
  return matmul(shares.astype(value.dtype), value).swapaxes(1, 2)
