"""A watchdog that ends a process whose steps have stopped.

A stuck disk, device or peer blocks a step forever, without an error. The
watchdog ends the process, so that any launcher can restart it; the run resumes
from its checkpoint. There is one watchdog per process. Without `watch` the
functions of this module do nothing.
"""

from collections.abc import Callable, Iterator
import contextlib
import faulthandler
import functools
import os
import sys
import threading
import time
from typing import TypeVar

from genre_flax.runtime import errors

_Result = TypeVar('_Result')


# The time of the last progress; None while it is not expected.
_last_progress: float | None = None


@contextlib.contextmanager
def watch(timeout_seconds: float) -> Iterator[None]:
  """Ends the process if steps stop during the block.

  The time counts from the start of the block, so that a set-up that hangs ends
  too. The stacks of all threads are printed to stderr before the end, with the
  status of StalledError.

  Args:
    timeout_seconds: Time without progress; 0 for no watchdog.
  """
  if not timeout_seconds:
    yield
    return
  is_over = threading.Event()
  report_progress()
  thread = threading.Thread(
    target=_watch,
    args=(timeout_seconds, is_over),
    name='watchdog',
    daemon=True,
  )
  thread.start()
  try:
    yield
  finally:
    is_over.set()
    thread.join()
    expect_no_progress()


def report_progress() -> None:
  """Restarts the clock; to be called after each step."""
  global _last_progress
  _last_progress = time.monotonic()


def expect_no_progress() -> None:
  """Stops the clock until the next `report_progress`."""
  global _last_progress
  _last_progress = None


def excluding_first_call(
  function: Callable[..., _Result],
) -> Callable[..., _Result]:
  """Stops the clock during the first call, which compiles the function."""
  is_first = True

  @functools.wraps(function)
  def call(*args, **kwargs):
    nonlocal is_first
    if not is_first:
      return function(*args, **kwargs)
    is_first = False
    expect_no_progress()
    result = function(*args, **kwargs)
    report_progress()
    return result

  return call


def _watch(timeout_seconds: float, is_over: threading.Event) -> None:
  while not is_over.wait(min(1.0, timeout_seconds / 4)):
    last = _last_progress
    if last is not None and time.monotonic() - last > timeout_seconds:
      _end(timeout_seconds)


def _end(timeout_seconds: float) -> None:
  print(
    f'error: No step was finished within {timeout_seconds / 60:g} minutes:'
    ' a device, a disk or another host is stuck. Run the same command again to'
    ' resume, or set a longer --stall_timeout_minutes. The stacks of all'
    ' threads:',
    file=sys.stderr,
    flush=True,
  )
  faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
  os._exit(errors.StalledError.exit_status)
