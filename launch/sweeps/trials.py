"""A trial's jobs: started as processes, followed by what they write."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import pathlib
import re
import signal
import subprocess
import time
from typing import Any

from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from launch.sweeps import search_space
from launch.sweeps import sweep_file

# Kinds of failure.
BAD_CONFIG = 'bad config'
OUT_OF_MEMORY = 'out of memory'
CRASH = 'crash'
# No failure of the trial: a launcher of before still follows the job.
BUSY = 'busy'

# Exit statuses of launch.run.
_INPUT_ERROR_STATUS = errors.InputError.exit_status
_NO_MACHINES_STATUS = errors.ResourceError.exit_status
_BUSY_STATUS = errors.BusyError.exit_status
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
_NO_MEMORY = re.compile(
  r'RESOURCE_EXHAUSTED|out of memory|MemoryError|bad_alloc|OUT_OF_MEMORY'
  r'|cannot allocate memory|oom-kill',
  re.IGNORECASE,
)
_NUM_LAST_LINES = 50


@dataclasses.dataclass(frozen=True)
class JobSpec:
  """One training: of one trial with one seed.

  Attributes:
    name: of the job, unique in the sweep.
    argv: the command that launches it and ends when it has.
    workdir: that it writes to.
    log: file for its output.
  """

  name: str
  argv: tuple[str, ...]
  workdir: str
  log: pathlib.Path


@dataclasses.dataclass(frozen=True)
class Failure:
  """Why a job failed: one of the kinds above, and its last words."""

  kind: str
  reason: str


class Job:
  """A running job."""

  def __init__(
    self, spec: JobSpec, *, clock: Callable[[], float] = time.monotonic
  ):
    """Starts it. It goes on with what is in its workdir."""
    self.spec = spec
    self._clock = clock
    self._started = clock()
    spec.log.parent.mkdir(parents=True, exist_ok=True)
    self._log = spec.log.open('ab')
    self._log_start = self._log.tell()
    # A session of its own: a Ctrl-C is passed on by the controller alone.
    self._process = subprocess.Popen(
      spec.argv,
      stdin=subprocess.DEVNULL,
      stdout=self._log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )

  @property
  def seconds(self) -> float:
    """Since the start."""
    return self._clock() - self._started

  def poll(self) -> int | None:
    """The exit status, or None while it runs."""
    return self._process.poll()

  def stop(self) -> None:
    """Asks it to save and end; `wait` then."""
    if self.poll() is None:
      self._process.send_signal(signal.SIGTERM)

  def wait(self, timeout: float | None = None) -> int:
    """The exit status, once it has ended."""
    status = self._process.wait(timeout)
    self._log.close()
    return status

  def failure(self) -> Failure | None:
    """What went wrong with a job that has ended; None for nothing."""
    status = self.wait()
    with self.spec.log.open('rb') as log:
      log.seek(self._log_start)
      text = log.read().decode('utf-8', errors='replace')
    return classify(status, text)


def classify(status: int, output: str) -> Failure | None:
  """Tells what an exit status and the output before it mean.

  Args:
    status: 0 for success; 2 for an error of the input.
    output: standard output and error of the job.

  Returns:
    The failure, or None.

  Raises:
    ResourceError: there were no machines to run the job on.
  """
  if status == 0:
    return None
  if status == _NO_MACHINES_STATUS:
    # Not this trial's fault: the next one would fare no better.
    raise errors.ResourceError(
      f'No machines can be had for the trials. The job said:\n{output[-2000:]}'
    )
  if status == _BUSY_STATUS:
    return Failure(BUSY, 'another launcher follows the job')
  lines = [line for line in output.splitlines() if line.strip()]
  last_words = lines[-1].strip() if lines else f'exit status {status}'
  if status == _INPUT_ERROR_STATUS:
    first = max(
      (n for n, line in enumerate(lines) if line.startswith('error: ')),
      default=len(lines),
    )
    message = ' '.join(line.strip() for line in lines[first:])
    return Failure(BAD_CONFIG, message or last_words)
  for line in reversed(lines[-_NUM_LAST_LINES:]):
    if _NO_MEMORY.search(line):
      return Failure(OUT_OF_MEMORY, line.strip())
  if status in _KILLED:
    return Failure(
      OUT_OF_MEMORY,
      'killed by SIGKILL, as a system does that has no memory left',
    )
  return Failure(CRASH, last_words)


@dataclasses.dataclass(frozen=True)
class Progress:
  """What a training has written so far.

  Attributes:
    values: the objective's metric, evaluation by evaluation.
    peak_memory_gb: of the host process, in 10**9 bytes; NaN if unknown.
  """

  values: tuple[float, ...]
  peak_memory_gb: float


def read_progress(workdir: str, objective: sweep_file.Objective) -> Progress:
  """Reads a workdir's metrics by step; there may be none yet."""
  values, memory = [], math.nan
  for line in metric_writer.read(workdir):
    if line.get('split') == objective.split:
      value = line.get(objective.metric)
      if value is not None:
        values.append(float(value))
    memory = max(memory, line.get('peak_memory_gb') or math.nan, key=_or_0)
  return Progress(tuple(values), memory)


def _or_0(value: float) -> float:
  return 0.0 if math.isnan(value) else value


def job_spec(
  sweep: sweep_file.Sweep,
  chosen: Mapping[str, Any],
  *,
  number: int,
  seed: int,
  sweep_name: str,
  sweep_dir: pathlib.Path,
  workdir_root: str,
  launcher: Sequence[str],
  extra_flags: Sequence[str] = (),
) -> JobSpec:
  """The job of a trial with a seed.

  Args:
    sweep: that it belongs to.
    chosen: the trial's values by key.
    number: of the trial.
    seed: of the training.
    sweep_name: starts the job's name.
    sweep_dir: for the log.
    workdir_root: folder of all workdirs, local or in a bucket.
    launcher: the command `python -m launch.run` with its own flags.
    extra_flags: of the training, after those of the sweep's file.
  """
  place = f'trial_{number:04d}/seed_{seed}'
  workdir = f'{workdir_root}/{place}'
  name = f'{sweep_name}-{number:04d}-{seed}'
  return JobSpec(
    name=name,
    argv=(
      *launcher,
      f'--name={name}',
      '--',
      *training_flags(sweep, chosen, extra_flags),
      f'--config.seed={seed}',
      f'--workdir={workdir}',
    ),
    workdir=workdir,
    log=sweep_dir / 'logs' / f'{name}.log',
  )


def training_flags(
  sweep: sweep_file.Sweep,
  chosen: Mapping[str, Any],
  extra_flags: Sequence[str] = (),
) -> list[str]:
  """The flags of the training binary, without seed and workdir."""
  return [
    f'--config={sweep.base}',
    *sweep.flags,
    *extra_flags,
    *search_space.as_flags(chosen),
  ]
