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
  key = jax.random.fold_in(jax.random.key(seed), stream)
  return jax.random.fold_in(key, step)


def named_key(seed: int, name: str, step: jax.Array | int) -> jax.Array:
  """The typed key of a stream by its name, such as 'dropout'."""
  streams = {stream.name.lower(): stream.value for stream in Stream}
  number = streams.get(name, zlib.crc32(name.encode()))
  return stream_key(seed, number, step)
