"""Why an attempt at a job ended, and the exit status that tells it."""

import enum
import signal

# Exit statuses of the launcher that no binary has.
NO_MACHINES = 69
PREEMPTED_TOO_OFTEN = 75
HUNG = 124

# A binary that was asked to stop saves, and ends with the shell's status of the
# signal. Where the launcher did not ask, the machine did: a preemption.
_STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_BAD_INPUT = 2


class Ending(enum.Enum):
  """Why an attempt is over."""

  SUCCESS = 'ended well'
  BAD_INPUT = 'refused its input'
  PREEMPTED = 'was preempted'
  CRASHED = 'crashed'
  HUNG = 'hung'
  NOT_STARTED = 'could not be started'
  REFUSED = 'got no machines'


def judge_statuses(statuses: tuple[int | None, ...]) -> Ending | None:
  """What the exit statuses of the processes say; None where nothing yet.

  A process that fails takes the others down with other statuses than its own,
  so the one that explains most wins: bad input, then a crash.
  """
  known = {status for status in statuses if status is not None}
  if _BAD_INPUT in known:
    return Ending.BAD_INPUT
  if known - {0, *_STOPPED}:
    # A preempted host ends well with its status; the others may lose it first.
    return Ending.PREEMPTED if known & set(_STOPPED) else Ending.CRASHED
  if known & set(_STOPPED):
    return Ending.PREEMPTED
  if statuses and None not in statuses:
    return Ending.SUCCESS
  return None


def exit_status(ending: Ending, statuses: tuple[int | None, ...]) -> int:
  """The launcher's exit status for a job that is not started again."""
  if ending is Ending.PREEMPTED:
    return PREEMPTED_TOO_OFTEN
  if ending is Ending.HUNG:
    return HUNG
  if ending in (Ending.NOT_STARTED, Ending.REFUSED):
    return NO_MACHINES
  if _BAD_INPUT in statuses:
    return _BAD_INPUT
  # Process 0's own, or else the first that tells of a failure.
  return next((status for status in statuses if status), 1)
