"""The largest batch that fits, with few compilations."""

from collections.abc import Callable
import math
from typing import Any

# What `genre_flax.lower` says of a step.
Facts = dict[str, Any]


def find_largest(
  compile_step: Callable[[int], Facts], first: Facts, *, multiple_of: int
) -> Facts | None:
  """Searches the largest per-device batch whose step fits into the memory.

  Memory grows about in proportion to the batch, so the search starts from the
  power of two that the first compilation leads to expect, goes up or down to
  one that fits and whose double does not, and halves the gap three times: the
  answer is at most an eighth too small.

  Args:
    compile_step: compiles for a per-device batch.
    first: what a compilation gave.
    multiple_of: number that the per-device batch must divide by.

  Returns:
    The facts of the largest batch that was found to fit; None where not even
    `multiple_of` fits.
  """
  known = {first['per_device_batch_size']: first}

  def facts(units: int) -> Facts:
    batch = units * multiple_of
    if batch not in known:
      known[batch] = compile_step(batch)
    return known[batch]

  expected = first['per_device_batch_size'] / multiple_of
  expected *= first['hbm_bytes_available'] / first['hbm_bytes_needed']
  low = 2 ** max(0, math.floor(math.log2(expected)))
  if facts(low)['fits']:
    while facts(2 * low)['fits']:
      low *= 2
  else:
    while not facts(low)['fits']:
      if low == 1:
        return None
      low //= 2
  high, gap = 2 * low, max(1, low // 8)
  while high - low > gap:
    middle = (low + high) // 2
    if facts(middle)['fits']:
      low = middle
    else:
      high = middle
  return facts(low)
