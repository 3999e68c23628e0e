"""What a training drops at random, of elements and of examples."""

import math

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp


class Dropout(nn.Module):
  """Dropout that draws one random byte an element.

  Random numbers are a good part of a training step on CPU, in time and in
  memory: they are kept for the backward pass. The rate is rounded to the
  nearest 1/256 below 1, and the kept elements are scaled by the rounded rate,
  so the expectation is exact (Srivastava et al., 2014).

  Attributes:
    rate: share of elements set to 0, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, inputs: jax.Array, *, deterministic: bool) -> jax.Array:
    """Returns an array of the shape and dtype of `inputs`."""
    dropped = min(round(self.rate * 256), 255)
    if deterministic or dropped == 0:
      return inputs
    drawn = _random_bytes(self.make_rng('dropout'), inputs.shape)
    keep = drawn >= jnp.uint8(dropped)
    scale = jnp.asarray(256 / (256 - dropped), inputs.dtype)
    return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs))


class StochasticDepth(nn.Module):
  """Drops the whole of an example, and scales the others (Huang et al., 2016).

  Attributes:
    rate: share of examples set to 0, in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, inputs: jax.Array, *, deterministic: bool) -> jax.Array:
    """Returns an array of the shape and dtype of `inputs`, [B, ...]."""
    if deterministic or self.rate == 0:
      return inputs
    shape = (inputs.shape[0],) + (1,) * (inputs.ndim - 1)
    keep = jax.random.bernoulli(self.make_rng('dropout'), 1 - self.rate, shape)
    scale = jnp.asarray(1 / (1 - self.rate), inputs.dtype)
    return jnp.where(keep, inputs * scale, jnp.zeros_like(inputs))


def _random_bytes(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Random uint8 of any shape, four from each random word.

  `jax.random.bits` with dtype uint8 draws two words of 32 bits for each byte.
  """
  size = math.prod(shape)
  words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
  return (
    lax.bitcast_convert_type(words, jnp.uint8).ravel()[:size].reshape(shape)
  )
