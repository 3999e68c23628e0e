"""Random keys, derived from the seed, a stream and the step."""

import enum
import zlib

import jax


class Stream(enum.IntEnum):
  """The uses of keys. Their numbers determine the results of a run."""

  PARAMS = 0
  AUGMENT = 1
  DROPOUT = 2


def stream_key(
  seed: int, stream: Stream, step: jax.Array | int = 0
) -> jax.Array:
  """Returns the typed key of a stream after `step` updates.

  No key is split and carried along, so that a resumed run has the same
  random numbers.
  """
  return _key(seed, stream, step)


def named_stream_key(
  seed: int, name: str, step: jax.Array | int = 0
) -> jax.Array:
  """Returns the typed key of a stream that a network names, after `step`."""
  # A built-in stream by its number, others by a hash that never changes.
  number = Stream.DROPOUT if name == 'dropout' else zlib.crc32(name.encode())
  return _key(seed, number, step)


def _key(seed, number, step):
  key = jax.random.fold_in(jax.random.key(seed), number)
  return jax.random.fold_in(key, step)
