"""How often a job is started again, and how long to wait before."""

from collections.abc import Callable
import dataclasses

from launch.jobs import endings

_MAX_BACKOFF_SECONDS = 600.0
# An attempt that ran this long was no failure to start.
_LONG_ATTEMPT_SECONDS = 1800.0


@dataclasses.dataclass(frozen=True)
class Limits:
  """How long and how often.

  Attributes:
    max_restarts: of any kind.
    max_crashes: crashes and hangs that are restarted, of those.
    hang_seconds: without a line in process 0's log until it counts as hung.
    grace_seconds: for saving, between SIGTERM and SIGKILL.
    backoff_seconds: before the first restart; doubles with each further one
      until an attempt lasts half an hour.
  """

  max_restarts: int = 20
  max_crashes: int = 3
  hang_seconds: float = 1800.0
  grace_seconds: float = 300.0
  backoff_seconds: float = 15.0


class Restarts:
  """Counts the attempts of a job against its limits.

  Attributes:
    count: of restarts so far.
    attempt_began: when the attempt that runs was started, by the clock.
  """

  def __init__(self, limits: Limits, clock: Callable[[], float]):
    """Counts nothing yet; `clock` gives seconds that never run backwards."""
    self._limits = limits
    self._clock = clock
    self._crashes = self._quick_failures = 0
    self.count = 0
    self.attempt_began = clock()

  def begin_attempt(self) -> None:
    """Takes the time of an attempt's start."""
    self.attempt_began = self._clock()

  def are_left(self, ending: endings.Ending) -> bool:
    """Counts an ending, and says whether the job may be started again."""
    self._crashes += ending in (
      endings.Ending.CRASHED,
      endings.Ending.HUNG,
      endings.Ending.NOT_STARTED,
    )
    return (
      self.count < self._limits.max_restarts
      and self._crashes <= self._limits.max_crashes
    )

  def next_wait(self) -> float:
    """Counts a restart; returns the seconds to wait before it."""
    if self._clock() - self.attempt_began >= _LONG_ATTEMPT_SECONDS:
      self._quick_failures = 0
    wait = self._limits.backoff_seconds * 2**self._quick_failures
    self._quick_failures += 1
    self.count += 1
    return min(_MAX_BACKOFF_SECONDS, wait)
