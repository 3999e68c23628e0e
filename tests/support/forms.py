"""Holds a form of an operation against another."""

import jax
import jax.numpy as jnp
import numpy as np


def random_array(seed, shape, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_same(form, plain, *arguments, atol=1e-5):
  """The two functions agree in value and in all gradients."""

  def value_and_gradients(function, arguments):
    def scalar(*args):
      out = function(*args)
      # Weights that differ by element, so that no gradient cancels.
      return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

    numbers = tuple(range(len(arguments)))
    (_, out), gradients = jax.value_and_grad(scalar, numbers, has_aux=True)(
      *arguments
    )
    return out, gradients

  @jax.jit  # Both at once: compiling is most of the time.
  def both(arguments):
    return [value_and_gradients(f, arguments) for f in (form, plain)]

  (value, gradients), (plain_value, plain_gradients) = both(arguments)
  np.testing.assert_allclose(value, plain_value, atol=atol)
  for a, b in zip(gradients, plain_gradients, strict=True):
    np.testing.assert_allclose(a, b, atol=10 * atol)
