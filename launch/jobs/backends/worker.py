"""What launch/jobs/worker.sh says, read."""

import base64
import binascii
from collections.abc import Sequence
import dataclasses
import pathlib

from genre_flax.runtime import files
from launch.jobs.backends import base

_MARK = 'worker-report'
# The report of a host that has no script yet, as arguments of echo.
NOTHING = f'{_MARK} absent - 0 ""'
# Bytes of the other processes' logs that are kept here.
TAIL_BYTES = 65536


@dataclasses.dataclass(frozen=True)
class Report:
  """A worker's answer to `report`.

  Attributes:
    state: absent, running, ended, or lost: it ended and left no status.
    status: exit status of a command that ended.
    size: of the log, in bytes.
    log: the part that was asked for.
  """

  state: str
  status: int | None
  size: int
  log: bytes


def parse(output: str) -> Report | None:
  """Finds the report among what else ssh may say; None where there is none."""
  for line in output.splitlines():
    fields = line.split(' ')
    if fields[0] != _MARK or len(fields) != 5:
      continue
    try:
      return Report(
        state=fields[1],
        status=None if fields[2] == '-' else int(fields[2]),
        size=int(fields[3]),
        log=base64.b64decode(fields[4], validate=True),
      )
    except (ValueError, binascii.Error):
      continue
  return None


def combine(
  reports: Sequence[Report], *, log: bytes, digest: str | None
) -> base.Observation:
  """What several workers' reports say of their job.

  Args:
    reports: of all workers, in their order.
    log: new bytes of process 0's.
    digest: of the job that runs there.

  Returns:
    The observation.
  """
  states = {report.state for report in reports}
  # A process that was killed with its attendant leaves no status.
  statuses = tuple(
    137 if report.state == 'lost' else report.status for report in reports
  )
  if states == {'absent'}:
    state = base.State.READY
  elif states <= {'ended', 'lost'}:
    state = base.State.ENDED
  else:
    # One that is absent beside others was not reached by `start`.
    state = base.State.RUNNING
    statuses = tuple(
      1 if report.state == 'absent' else status
      for report, status in zip(reports, statuses, strict=True)
    )
  return base.Observation(
    state,
    statuses=statuses,
    log=log.decode('utf-8', errors='replace'),
    digest=digest,
  )


def keep_tail(folder: pathlib.Path, index: int, log: bytes) -> None:
  """Keeps the end of a worker's log on this machine."""
  folder.mkdir(parents=True, exist_ok=True)
  files.write_atomic(folder / f'process_{index}.log', log)
