"""Ctrl-C and SIGTERM, as something to ask about."""

import signal
import time
import types


class StopRequest:
  """Counts Ctrl-C and SIGTERM instead of dying of them."""

  def __init__(self):
    self.count = 0
    self.exit_status = 128 + signal.SIGINT

  def __enter__(self) -> 'StopRequest':
    self._previous = {
      number: signal.signal(number, self._on_signal)
      for number in (signal.SIGINT, signal.SIGTERM)
    }
    return self

  def __exit__(self, *exc_info) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    self.count += 1
    self.exit_status = 128 + number

  def sleep(self, seconds: float) -> None:
    """Sleeps, but wakes up for a signal."""
    seen, end = self.count, time.monotonic() + seconds
    while self.count == seen and time.monotonic() < end:
      time.sleep(min(0.2, max(0.0, end - time.monotonic())))
