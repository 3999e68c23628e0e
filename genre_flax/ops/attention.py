"""Attention for accelerators, with less memory traffic than jax.nn's.

What binds attention over a few hundred patches is the matrix of their scores,
which passes through memory several times. Here it is kept in the dtype of the
computation, with sums in float32, and is not kept for the backward pass: that
computes it anew, from what takes no more than the patches themselves (as Dao et
al., 2022, do for each tile).
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def dot_product_attention(
  query: jax.Array, key: jax.Array, value: jax.Array
) -> jax.Array:
  """As in `forms`: of [B, M, heads, C] and, twice, [B, N, heads, C]."""
  return _forward(query, key, value)[0]


def _forward(query, key, value):
  scores = _scores(query, key)
  largest = scores.max(axis=-1, keepdims=True).astype(jnp.float32)
  sums = jnp.exp(scores.astype(jnp.float32) - largest).sum(-1, keepdims=True)
  log_sums = largest + jnp.log(sums)
  shares = _shares(scores, log_sums)
  out = jnp.einsum('bhmn,bnhc->bmhc', shares, value)
  return out, (query, key, value, out, log_sums)


def _backward(saved, gradient):
  query, key, value, out, log_sums = saved
  shares = _shares(_scores(query, key), log_sums)
  to_value = jnp.einsum('bhmn,bmhc->bnhc', shares, gradient)
  to_shares = jnp.einsum('bmhc,bnhc->bhmn', gradient, value)
  # The sum over n of shares times to_shares (Dao et al., 2022, section B.2).
  means = jnp.einsum(
    'bmhc,bmhc->bhm', gradient, out, preferred_element_type=jnp.float32
  )
  to_scores = shares.astype(jnp.float32) * (to_shares - means[..., None])
  to_scores = (to_scores * _scale(query)).astype(query.dtype)
  return (
    jnp.einsum('bhmn,bnhc->bmhc', to_scores, key),
    jnp.einsum('bhmn,bmhc->bnhc', to_scores, query),
    to_value,
  )


dot_product_attention.defvjp(_forward, _backward)


def _scores(query, key):
  scaled = (query * _scale(query)).astype(query.dtype)
  return jnp.einsum('bmhc,bnhc->bhmn', scaled, key)


def _scale(query):
  return query.shape[-1] ** -0.5


def _shares(scores, log_sums):
  return jnp.exp(scores.astype(jnp.float32) - log_sums).astype(scores.dtype)
