import jax
import numpy as np

from genre_flax.runtime import rng


def bits(*args):
  return tuple(np.asarray(jax.random.key_data(rng.stream_key(*args))))


def test_keys_differ_by_seed_stream_and_step():
  keys = {
    bits(seed, stream, step)
    for seed in (0, 1)
    for stream in rng.Stream
    for step in (0, 1, 2)
  }
  assert len(keys) == 2 * len(rng.Stream) * 3


def test_a_key_is_a_function_of_its_arguments():
  traced = jax.jit(lambda step: rng.stream_key(7, rng.Stream.DROPOUT, step))(5)
  assert tuple(np.asarray(jax.random.key_data(traced))) == bits(
    7, rng.Stream.DROPOUT, 5
  )
