"""Holds a form of an operation against another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


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
