"""Requests to stop a run: Ctrl-C, SIGTERM and preemption of a TPU."""

import os
import signal
import threading
import types

from absl import logging
from jax.experimental import multihost_utils

from genre_flax.runtime import parallel


class StopNotice:
  """Converts signals to a flag that the training loop reads at every step.

  In a multi-host run all hosts read the same value at the same step: JAX's
  distributed runtime handles SIGTERM and agrees on a step, and Ctrl-C is
  forwarded as SIGTERM. A second Ctrl-C ends the program immediately. Threads
  other than the main one cannot handle signals; there the flag stays unset in
  a run of one host.
  """

  def __init__(self):
    self._signal: int | None = None
    self._previous: dict[int, object] = {}

  def __enter__(self) -> 'StopNotice':
    handled = []
    if threading.current_thread() is threading.main_thread():
      handled.append(signal.SIGINT)
      # JAX's runtime handles SIGTERM of several processes only.
      if parallel.num_hosts() == 1:
        handled.append(signal.SIGTERM)
    for number in handled:
      self._previous[number] = signal.signal(number, self._on_signal)
    return self

  def __exit__(self, *exc_info) -> None:
    for number, handler in self._previous.items():
      if handler is not None:  # A handler that is not written in Python.
        signal.signal(number, handler)

  def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
    del frame
    signal.signal(signal.SIGINT, signal.default_int_handler)
    self._signal = number
    logging.warning(
      '%s: stopping after this step. Press Ctrl-C again to stop without'
      ' saving.',
      signal.Signals(number).name,
    )
    if parallel.num_hosts() > 1:
      os.kill(os.getpid(), signal.SIGTERM)

  def is_set(self, step: int) -> bool:
    """Whether to stop after `step`; to be called at each step on all hosts."""
    if parallel.num_hosts() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._signal is not None

  @property
  def exit_status(self) -> int:
    """The exit status of shells for the signal, such as 143 for SIGTERM."""
    return 128 + (self._signal or signal.SIGTERM)
