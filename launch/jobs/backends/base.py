"""What every backend does for the supervisor."""

import abc
from collections.abc import Sequence
import dataclasses
import enum
from typing import ClassVar

from launch.jobs import job as job_lib
from launch.runtime import command


class State(enum.Enum):
  """Where a job is."""

  ABSENT = 'there is nothing under its name'
  WAITING = 'its machines were asked for'
  READY = 'its machines are there'
  RUNNING = 'it runs'
  ENDED = 'all its processes have ended'
  PREEMPTED = 'its machines were taken away'
  FAILED = 'its machines cannot be had'
  UNKNOWN = 'it could not be asked about'


@dataclasses.dataclass(frozen=True)
class Observation:
  """What was seen of a job at one moment.

  Attributes:
    state: where it is.
    statuses: exit statuses by process, None of those that run or are unknown.
    log: what process 0 has written since the last observation.
    detail: in the provider's words.
    digest: of the job that is there, as `Job.digest`; None where not known.
  """

  state: State
  statuses: tuple[int | None, ...] = ()
  log: str = ''
  detail: str = ''
  digest: str | None = None


@dataclasses.dataclass(frozen=True)
class Step:
  """A step of a plan, as --dry_run shows it.

  Attributes:
    text: what it is for.
    args: the command; empty where `script` is all there is.
    script: lines of shell instead of a command.
  """

  text: str
  args: Sequence[str] = ()
  script: str = ''

  def __str__(self) -> str:
    comment = '\n'.join(f'# {line}' for line in self.text.splitlines())
    return f'{comment}\n{self.script or command.quote(self.args)}\n'


class Backend(abc.ABC):
  """A way to get machines and to run a job on them.

  The supervisor asks `observe` where the job is, and then takes the one step
  that leads on: `create` where it is ABSENT, `start` where it is READY. `clear`
  leads back from any end to one of these.

  Attributes:
    OPTIONS: the flags of launch/run.py that are this backend's own.
    POLL_SECONDS: between two observations.
  """

  OPTIONS: ClassVar[frozenset[str]] = frozenset()
  POLL_SECONDS: ClassVar[float] = 15.0

  def __init__(self, job: job_lib.Job):
    self.job = job

  @abc.abstractmethod
  def plan(self) -> list[Step]:
    """All commands in their order; changes nothing."""

  @abc.abstractmethod
  def observe(self) -> Observation:
    """Where the job is, and what it has logged since the last call."""

  @abc.abstractmethod
  def other_writer(self) -> str | None:
    """The name of another job that writes the same folder, if one is there."""

  @abc.abstractmethod
  def create(self) -> None:
    """Asks for machines; may return before they are there.

    Raises:
      ResourceError: they are refused.
    """

  @abc.abstractmethod
  def start(self) -> None:
    """Sets the machines up and starts the job; may be called twice.

    Raises:
      ResourceError: it cannot be started.
    """

  @abc.abstractmethod
  def stop(self, *, kill: bool = False) -> None:
    """Asks the processes to save and end (SIGTERM), or kills them."""

  @abc.abstractmethod
  def clear(self) -> None:
    """Forgets the attempt that ended, so that another can begin."""

  @abc.abstractmethod
  def delete(self) -> None:
    """Gives back what `create` made; waits until it is gone."""

  @abc.abstractmethod
  def delete_command(self) -> Sequence[str]:
    """What a person types to do what `delete` does; empty for nothing."""

  def save_logs(self) -> str:
    """Keeps the logs of all processes; says where, or '' if nowhere."""
    return ''
