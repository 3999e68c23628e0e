"""A threaded map with a bounded number of pending results."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
import itertools
import os
from typing import TypeVar

_In = TypeVar('_In')
_Out = TypeVar('_Out')
_PENDING_PER_THREAD = 4


def map_in_order(
  function: Callable[[_In], _Out],
  items: Iterable[_In],
  *,
  num_threads: int | None = None,
) -> Iterator[_Out]:
  """Applies a thread-safe function in threads and yields the results in order.

  Unlike `Executor.map`, which submits all items at once, it submits a few and
  continues as results are consumed. By default there is a thread per CPU core.
  """
  num_threads = num_threads or os.cpu_count() or 1
  items = iter(items)
  with futures.ThreadPoolExecutor(num_threads) as pool:
    pending = collections.deque()
    try:
      for item in itertools.islice(items, num_threads * _PENDING_PER_THREAD):
        pending.append(pool.submit(function, item))
      while pending:
        result = pending.popleft().result()
        for item in itertools.islice(items, 1):
          pending.append(pool.submit(function, item))
        yield result
    finally:
      for future in pending:
        future.cancel()
