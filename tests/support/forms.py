"""Holds a form of an operation against another."""

import jax
import jax.numpy as jnp
import numpy as np


def random_array(seed, shape, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_same(form, plain, *arguments, atol=1e-5):
  """The two functions agree in value and in all gradients.

  Tolerances are of the largest element where that is above 1.
  """

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
  _assert_close(value, plain_value, atol)
  for a, b in zip(gradients, plain_gradients, strict=True):
    _assert_close(a, b, 10 * atol)


def _assert_close(got, expected, atol):
  got, expected = np.asarray(got, np.float32), np.asarray(expected, np.float32)
  scale = max(1.0, np.abs(expected).max())
  np.testing.assert_allclose(got / scale, expected / scale, atol=atol)
