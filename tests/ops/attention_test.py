import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.ops import attention


def draw(shape, seed, dtype):
  values = np.random.default_rng(seed).standard_normal(shape)
  return jnp.asarray(3 * values, dtype)


@pytest.mark.parametrize(
  ('dtype', 'tolerance'), [('float32', 1e-5), ('bfloat16', 0.05)]
)
@pytest.mark.parametrize(('queries', 'keys'), [(7, 7), (1, 9), (5, 3)])
def test_equals_that_of_jax_and_so_do_its_gradients(
  queries, keys, dtype, tolerance
):
  query = draw((2, queries, 3, 8), 0, dtype)
  key, value = (draw((2, keys, 3, 8), seed, dtype) for seed in (1, 2))
  of_out = draw(query.shape, 3, dtype)

  def run(function, *arrays):
    out, pull = jax.vjp(function, *arrays)
    return out, *pull(of_out.astype(out.dtype))

  got = run(attention.dot_product_attention, query, key, value)
  expected = run(
    jax.nn.dot_product_attention,
    *(x.astype(jnp.float32) for x in (query, key, value)),
  )
  for ours, theirs in zip(got, expected, strict=True):
    assert ours.dtype == dtype
    np.testing.assert_allclose(
      np.asarray(ours, np.float32),
      theirs,
      atol=tolerance * float(jnp.abs(theirs).max()),
    )


def test_scores_that_float32_cannot_exponentiate_are_no_matter():
  query = jnp.full((1, 2, 1, 4), 100.0)
  key = jnp.asarray([[[[100.0] * 4], [[-100.0] * 4]]])
  value = jnp.asarray([[[[1.0] * 4], [[2.0] * 4]]])
  out = attention.dot_product_attention(query, key, value)
  np.testing.assert_array_equal(out, jnp.ones_like(query))
