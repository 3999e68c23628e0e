"""Reference implementation of attention, with less memory traffic than jax.nn.

Attention over a few hundred patches is limited by the memory traffic of the
score matrix. Here the scores have the dtype of the computation, with float32
sums, and are recomputed in the backward pass instead of being stored (as for
each tile in Dao et al., 2022, 'FlashAttention').
"""

import jax
import jax.numpy as jnp


def dot_product_attention(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """See `ops.dot_product_attention`; its gradient is that of JAX."""
  return _forward(query, key, value)[0]


@jax.custom_vjp
def recomputed_attention(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """`dot_product_attention` that stores no scores; differentiable once."""
  return _forward(query, key, value)[0]


def _forward(query, key, value):
  scores = _scores(query, key)
  largest = scores.max(axis=-1, keepdims=True).astype(jnp.float32)
  sums = jnp.exp(scores.astype(jnp.float32) - largest).sum(-1, keepdims=True)
  log_sums = largest + jnp.log(sums)
  weights = _weights(scores, log_sums)
  out = jnp.einsum('bhmn,bnhc->bmhc', weights, value)
  return out, (query, key, value, out, log_sums)


def _backward(residuals, gradient):
  query, key, value, out, log_sums = residuals
  weights = _weights(_scores(query, key), log_sums)
  d_value = jnp.einsum('bhmn,bmhc->bnhc', weights, gradient)
  d_weights = jnp.einsum('bmhc,bnhc->bhmn', gradient, value)
  # The sum over n of weights times d_weights (Dao et al., 2022, section B.2).
  means = jnp.einsum(
    'bmhc,bmhc->bhm', gradient, out, preferred_element_type=jnp.float32
  )
  d_scores = weights.astype(jnp.float32) * (d_weights - means[..., None])
  d_scores = (d_scores * _scale(query)).astype(query.dtype)
  return (
    jnp.einsum('bhmn,bnhc->bmhc', d_scores, key),
    jnp.einsum('bhmn,bmhc->bnhc', d_scores, query),
    d_value,
  )


recomputed_attention.defvjp(_forward, _backward)


def _scores(query, key):
  scaled = (query * _scale(query)).astype(query.dtype)
  return jnp.einsum('bmhc,bnhc->bhmn', scaled, key)


def _scale(query):
  return query.shape[-1] ** -0.5


def _weights(scores, log_sums):
  return jnp.exp(scores.astype(jnp.float32) - log_sums).astype(scores.dtype)
