"""How time is taken, the same for all contenders."""

from collections.abc import Callable, Iterable
import itertools
import time
from typing import Any

_NUM_WARMUP_STEPS = 2
# Several batches are made at a time, and come one soon after the other; after
# so many a pipeline runs evenly.
_NUM_WARMUP_BATCHES = 8
# How long a stream is of which an epoch is timed. If it ended with that, a
# contender that makes batches ahead would gain those that it had begun before
# the clock, and have none begun when it stops, as one without end has.
NUM_EPOCHS = 2


def time_steps(
  step: Callable[[], Any],
  wait: Callable[[Any], Any],
  *,
  batch_size: int,
  num_steps: int,
) -> dict[str, float]:
  """Times a step, with the next one dispatched before one is waited for.

  Args:
    step: starts a step, and returns what `wait` takes.
    wait: returns when that step is done.
    batch_size: posters a step.
    num_steps: to time, after a warm-up.

  Returns:
    'images_per_second', and 'compile_seconds', by which the first step took
    longer.
  """
  started = time.perf_counter()
  wait(step())
  first = time.perf_counter() - started
  for _ in range(_NUM_WARMUP_STEPS):
    wait(step())
  started = time.perf_counter()
  pending = step()
  for _ in range(num_steps - 1):
    following = step()
    wait(pending)
    pending = following
  wait(pending)
  seconds = (time.perf_counter() - started) / num_steps
  return {
    'images_per_second': batch_size / seconds,
    'compile_seconds': max(first - seconds, 0.0),
  }


def time_batches(
  batches: Iterable[Any], *, batch_size: int, num_batches: int
) -> dict[str, float]:
  """Times an input pipeline that nothing waits for.

  Args:
    batches: more than `num_batches`, where they are made ahead; NUM_EPOCHS.
    batch_size: posters a batch.
    num_batches: to read; the first few of many are not timed.

  Returns:
    'images_per_second'.
  """
  iterator = iter(batches)
  num_warmup = min(_NUM_WARMUP_BATCHES, num_batches // 2)
  for _ in itertools.islice(iterator, num_warmup):
    pass
  started = time.perf_counter()
  num_timed = sum(
    1 for _ in itertools.islice(iterator, num_batches - num_warmup)
  )
  seconds = time.perf_counter() - started
  return {'images_per_second': num_timed * batch_size / seconds}
