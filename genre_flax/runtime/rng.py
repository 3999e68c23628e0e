"""Random keys: one seed, a stream for each use, a key for each step."""

import enum

import jax


class Stream(enum.IntEnum):
  """What a key is used for; the numbers are part of what a run computes."""

  PARAMS = 0
  AUGMENT = 1
  DROPOUT = 2


def stream_key(
  seed: int, stream: Stream, step: jax.Array | int = 0
) -> jax.Array:
  """The key of a stream at a step.

  No key is split and carried along, so a run that is resumed at a step draws
  what it would have drawn.

  Args:
    seed: of the run.
    stream: what the key is for.
    step: updates done so far.

  Returns:
    A typed key.
  """
  key = jax.random.fold_in(jax.random.key(seed), stream)
  return jax.random.fold_in(key, step)
