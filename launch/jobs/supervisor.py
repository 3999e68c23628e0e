"""Follows a job to its end, and starts it again where that can help."""

from collections.abc import Callable
import dataclasses
import time
from typing import TextIO

from genre_flax.runtime import errors
from launch.jobs import endings
from launch.jobs import restarts as restarts_lib
from launch.jobs.backends import base
from launch.runtime import command
from launch.runtime import stop_request

# The processes of a run end each other when one fails; those that have not
# after this time never will.
_STRAGGLER_SECONDS = 120.0

_State = base.State
_Ending = endings.Ending


class Supervisor:
  """One job's state machine, the same for all backends."""

  def __init__(
    self,
    backend: base.Backend,
    limits: restarts_lib.Limits,
    *,
    keep: bool,
    output: TextIO,
    stop: stop_request.StopRequest,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] | None = None,
  ):
    """Prepares to follow a job.

    Args:
      backend: of the job.
      limits: see there.
      keep: whether to leave the machines when the job is over.
      output: for the log of process 0 and the launcher's own lines.
      stop: told by the user.
      clock: seconds that never run backwards.
      sleep: waits for some seconds; wakes up for a signal.
    """
    self._backend = backend
    self._limits = limits
    self._keep = keep
    self._output = output
    self._stop = stop
    self._clock = clock
    self._sleep = sleep or stop.sleep
    self._restarts = restarts_lib.Restarts(limits, clock)
    self._begin_attempt()
    self._last_state: _State | None = None

  def run(self) -> int:
    """Runs the job to its end.

    Returns:
      The exit status of the program; launch/run.py lists them.

    Raises:
      InputError: the name or the folder is in use by another job.
      ResourceError: the machines cannot be had.
    """
    self._take_over()
    while not self._stop.count:
      observation = self._observe()
      ending = self._judge(observation)
      if ending is None:
        ending, observation = self._advance(observation)
      if ending is None:
        self._sleep(self._backend.POLL_SECONDS)
      else:
        status = self._end_attempt(ending, observation)
        if status is not None:
          return status
    return self._shut_down()

  def _take_over(self) -> None:
    """Follows the job where it is there already; refuses where another is."""
    backend, job = self._backend, self._backend.job
    observation = backend.observe()
    if observation.state is _State.UNKNOWN:
      raise errors.ResourceError(
        f'Whether {job.name} runs already could not be asked:'
        f' {observation.detail}'
      )
    is_there = observation.state not in (_State.ABSENT, _State.READY)
    delete = backend.delete_command()
    # One that has ended, and holds no machines, leaves nothing to be lost.
    is_over = observation.state is _State.ENDED and not delete
    is_other = observation.digest not in (None, job.digest)
    if is_there and is_other and not is_over:
      raise errors.InputError(
        f'The name {job.name} is in use by a job with other flags. Choose'
        ' another --name, or end that one first'
        + (f':\n  {command.quote(delete)}' if delete else '.')
      )
    if job.is_writer and (other := backend.other_writer()):
      raise errors.InputError(
        f'The job {other} writes {job.folder} already; two writers would damage'
        f' it. Follow that one with --name={other} and its own flags, or choose'
        ' another folder.'
      )
    if observation.state in (_State.RUNNING, _State.WAITING):
      self._say(f'{job.name} is there already: following it.')
      self._output.write(observation.log)
    elif is_there:
      self._say(f'Clearing what an earlier {job.name} left.')
      backend.clear()

  def _observe(self) -> base.Observation:
    observation = self._backend.observe()
    if observation.log:
      self._output.write(observation.log)
      self._output.flush()
    if observation.log or observation.state in (_State.WAITING, _State.READY):
      self._last_progress = self._clock()
    if observation.state is not self._last_state:
      self._last_state = observation.state
      # An end is told with its reason.
      if observation.state not in (_State.ENDED, _State.PREEMPTED):
        detail = f' ({observation.detail})' if observation.detail else ''
        self._say(
          f'{self._backend.job.name}: {observation.state.value}{detail}.'
        )
    return observation

  def _judge(self, observation: base.Observation) -> _Ending | None:
    """Whether the attempt is over, and why; None while it goes on."""
    if observation.state is _State.PREEMPTED:
      return _Ending.PREEMPTED
    if observation.state is _State.FAILED:
      return _Ending.REFUSED
    ending = endings.judge_statuses(observation.statuses)
    if observation.state is _State.ENDED:
      return ending or _Ending.CRASHED
    if ending in (_Ending.BAD_INPUT, _Ending.CRASHED, _Ending.PREEMPTED):
      self._failed_since = self._failed_since or self._clock()
      if self._clock() - self._failed_since >= _STRAGGLER_SECONDS:
        return ending
    is_silent_for = self._clock() - self._last_progress
    if (
      observation.state in (_State.RUNNING, _State.UNKNOWN)
      and is_silent_for >= self._limits.hang_seconds
    ):
      return _Ending.HUNG
    return None

  def _advance(
    self, observation: base.Observation
  ) -> tuple[_Ending | None, base.Observation]:
    """Takes the step that leads on; a failure of it ends the attempt."""
    try:
      if observation.state is _State.ABSENT:
        self._backend.create()
      elif observation.state is _State.READY:
        self._backend.start()
        self._begin_attempt()
    except errors.ResourceError as e:
      was_ready = observation.state is _State.READY
      ending = _Ending.NOT_STARTED if was_ready else _Ending.REFUSED
      return ending, dataclasses.replace(observation, detail=str(e))
    return None, observation

  def _begin_attempt(self) -> None:
    self._restarts.begin_attempt()
    self._last_progress = self._restarts.attempt_began
    self._failed_since: float | None = None

  def _end_attempt(
    self, ending: _Ending, observation: base.Observation
  ) -> int | None:
    """Starts again where that can help; else returns the exit status."""
    name = self._backend.job.name
    if ending is _Ending.REFUSED and not self._restarts.count:
      # Who asks for the first time learns at once that there are none.
      self._finish()
      raise errors.ResourceError(observation.detail)
    own = next((status for status in observation.statuses if status), None)
    reason = '' if own is None else f' with exit status {own}'
    detail = f' ({observation.detail})' if observation.detail else ''
    self._say(f'{name} {ending.value}{reason}{detail}.')
    if ending is not _Ending.REFUSED:
      self._save_logs()
    if ending is _Ending.SUCCESS:
      self._finish()
      return 0
    status = endings.exit_status(ending, observation.statuses)
    if ending is _Ending.BAD_INPUT:
      self._finish()
      return status
    if not self._restarts.are_left(ending):
      self._say(
        f'Giving up after {self._restarts.count} restart(s);'
        f' --max_restarts={self._limits.max_restarts}'
        f' --max_crashes={self._limits.max_crashes}. The same command goes on'
        ' from the last checkpoint.'
      )
      self._finish()
      return status
    self._restart()
    return None

  def _restart(self) -> None:
    wait = self._restarts.next_wait()
    self._say(
      f'Restart {self._restarts.count} of at most'
      f' {self._limits.max_restarts} in {wait:.0f} s; it goes on from the last'
      ' checkpoint.'
    )
    self._end_processes()
    self._sleep(wait)
    if self._stop.count:
      return
    try:
      self._backend.clear()
    except errors.ResourceError:
      self._say_how_to_delete('The machines are left.')
      raise
    self._begin_attempt()

  def _end_processes(self) -> None:
    """Makes sure that nothing of the attempt writes any more."""
    if self._backend.observe().state is _State.RUNNING:
      self._backend.stop(kill=True)

  def _shut_down(self) -> int:
    """After Ctrl-C: lets the job save and end; after a second leaves it."""
    backend, name = self._backend, self._backend.job.name
    asked = self._stop.count
    self._say(
      f'Stopping {name}: it saves and ends. Press Ctrl-C again to leave it as'
      ' it is.'
    )
    end = self._clock() + self._limits.grace_seconds
    if self._observe().state is _State.RUNNING:
      backend.stop()
      while self._stop.count == asked and self._clock() < end:
        if self._observe().state is not _State.RUNNING:
          break
        self._sleep(min(backend.POLL_SECONDS, 5.0))
    if self._stop.count > asked:
      self._say_how_to_delete(f'Left {name} as it is.')
      return self._stop.exit_status
    self._end_processes()
    self._say(f'{name} is stopped. The same command goes on from there.')
    self._save_logs()
    self._finish()
    return self._stop.exit_status

  def _finish(self) -> None:
    """Gives the machines back, or says how to."""
    if not self._backend.delete_command():
      return
    if self._keep:
      self._say_how_to_delete('The machines are kept, and cost what they cost.')
      return
    try:
      self._backend.delete()
    except errors.ResourceError as e:
      self._say_how_to_delete(f'The machines could not be deleted. {e}')

  def _say_how_to_delete(self, text: str) -> None:
    delete = self._backend.delete_command()
    how = f' Delete with:\n  {command.quote(delete)}' if delete else ''
    self._say(text + how)

  def _save_logs(self) -> None:
    place = self._backend.save_logs()
    if place:
      self._say(f'Logs of all processes: {place}')

  def _say(self, text: str) -> None:
    print(f'launch: {text}', file=self._output, flush=True)
