"""Notices that a run should stop: Ctrl-C, SIGTERM, a TPU's preemption."""

import os
import signal
import types

from absl import logging
from jax.experimental import multihost_utils

from genre_flax.runtime import parallel


class StopNotice:
  """Turns signals into a question that the training loop asks at every step.

  In a multi-host run all hosts get the same answer at the same step: SIGTERM
  there is handled by JAX's distributed runtime, which agrees on a step, and
  Ctrl-C is passed on as one. A second Ctrl-C ends the program at once.
  """

  def __init__(self):
    self._signal: int | None = None
    self._previous: dict[int, object] = {}

  def __enter__(self) -> 'StopNotice':
    handled = [signal.SIGINT]
    # A single process asks nobody, and so must hear it itself.
    if parallel.num_hosts() == 1:
      handled.append(signal.SIGTERM)
    for number in handled:
      self._previous[number] = signal.signal(number, self._on_signal)
    return self

  def __exit__(self, *exc_info) -> None:
    for number, handler in self._previous.items():
      if handler is not None:  # One that is not Python's.
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
    """Whether to stop after `step`; all hosts ask, once a step."""
    if parallel.num_hosts() > 1:
      return multihost_utils.reached_preemption_sync_point(step)
    return self._signal is not None

  @property
  def exit_status(self) -> int:
    """The status that shells give for the signal, such as 143 for SIGTERM."""
    return 128 + (self._signal or signal.SIGTERM)
