import jax
import numpy as np

from genre_flax.runtime import rng


def bits(key):
  return tuple(np.asarray(jax.random.key_data(key)))


def test_keys_differ_by_seed_stream_and_step():
  keys = {
    bits(rng.stream_key(seed, stream, step))
    for seed in (0, 1)
    for stream in rng.Stream
    for step in (0, 1, 2)
  }
  assert len(keys) == 2 * len(rng.Stream) * 3


def test_a_traced_step_gives_the_same_key():
  traced = jax.jit(lambda step: rng.stream_key(7, rng.Stream.DROPOUT, step))(5)
  assert bits(traced) == bits(rng.stream_key(7, rng.Stream.DROPOUT, 5))
