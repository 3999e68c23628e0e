"""Comparison of functions by their values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.runtime import target


def random_array(seed, shape, dtype=jnp.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def assert_kernel_matches_reference(function, *arguments, atol=1e-5):
  """Compares the CPU kernel of an operation with its float32 reference."""

  def kernel(*arguments):
    with target.traced_for('cpu'):
      out = function(*arguments)
    assert jax.tree.leaves(out)[0].dtype == arguments[0].dtype
    return out

  def reference(*arguments):
    with target.traced_for(target.PORTABLE):
      return function(*(x.astype(jnp.float32) for x in arguments))

  assert_same_function(kernel, reference, *arguments, atol=atol)


def assert_same_function(function, reference, *arguments, atol=1e-5):
  """Compares values and all gradients of two functions.

  Tolerances are relative to the largest element if it is above 1; those of
  gradients are ten times as large.
  """

  def value_and_gradients(function, arguments):
    def scalar(*args):
      out = function(*args)
      # Weights differ by element, so that no gradient cancels.
      return (out * jnp.cos(jnp.arange(out.size)).reshape(out.shape)).sum(), out

    numbers = tuple(range(len(arguments)))
    (_, out), gradients = jax.value_and_grad(scalar, numbers, has_aux=True)(
      *arguments
    )
    return out, gradients

  @jax.jit  # Both at once, since compilation takes most of the time.
  def both(arguments):
    return [value_and_gradients(f, arguments) for f in (function, reference)]

  (value, gradients), (expected, expected_gradients) = both(arguments)
  _assert_close(value, expected, atol)
  for a, b in zip(gradients, expected_gradients, strict=True):
    _assert_close(a, b, 10 * atol)


def _assert_close(got, expected, atol):
  got, expected = np.asarray(got, np.float32), np.asarray(expected, np.float32)
  scale = max(1.0, np.abs(expected).max())
  np.testing.assert_allclose(got / scale, expected / scale, atol=atol)
