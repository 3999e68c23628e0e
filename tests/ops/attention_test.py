import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.ops import attention
from tests.support import numerics


@pytest.mark.parametrize('dtype, atol', [('float32', 1e-5), ('bfloat16', 0.05)])
@pytest.mark.parametrize('queries, keys', [(7, 7), (1, 9), (5, 3)])
def test_values_and_gradients_match_jax(queries, keys, dtype, atol):
  def reference(*arrays):
    return jax.nn.dot_product_attention(
      *(x.astype(jnp.float32) for x in arrays)
    )

  numerics.assert_same_function(
    attention.recomputed_attention,
    reference,
    *(
      3 * numerics.random_array(seed, (2, size, 3, 8), dtype)
      for seed, size in enumerate((queries, keys, keys))
    ),
    atol=atol,
  )


def test_large_scores_do_not_overflow():
  query = jnp.full((1, 2, 1, 4), 100.0)
  key = jnp.asarray([[[[100.0] * 4], [[-100.0] * 4]]])
  value = jnp.asarray([[[[1.0] * 4], [[2.0] * 4]]])
  out = attention.recomputed_attention(query, key, value)
  np.testing.assert_array_equal(out, jnp.ones_like(query))
