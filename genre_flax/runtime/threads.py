"""Threads that work ahead, but not without bound."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
import itertools
import os
from typing import TypeVar

_In = TypeVar('_In')
_Out = TypeVar('_Out')
# Items that are begun and not yet taken, for each thread.
_AHEAD = 4


def map_in_order(
  function: Callable[[_In], _Out],
  items: Iterable[_In],
  *,
  num_threads: int | None = None,
) -> Iterator[_Out]:
  """Applies a function in threads; the results come in the items' order.

  `Executor.map` begins all items at once, and so holds all of their results;
  here a few are begun, and more as results are taken.

  Args:
    function: safe to use from threads.
    items: to apply it to; taken as they are needed.
    num_threads: None for as many as there are CPU cores.

  Yields:
    The result for each item.
  """
  num_threads = num_threads or os.cpu_count() or 1
  items = iter(items)
  with futures.ThreadPoolExecutor(num_threads) as pool:
    pending = collections.deque()
    try:
      for item in itertools.islice(items, num_threads * _AHEAD):
        pending.append(pool.submit(function, item))
      while pending:
        result = pending.popleft().result()
        for item in itertools.islice(items, 1):
          pending.append(pool.submit(function, item))
        yield result
    finally:
      for future in pending:
        future.cancel()
