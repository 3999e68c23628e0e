"""A worker of a sweep: takes trials, trains them and reports their scores."""

import collections
import contextlib
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import logging
from etils import epath
import optuna

from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch import processes as processes_lib
from launch.sweeps import results
from launch.sweeps import studies
from launch.sweeps import sweep_file
from launch.sweeps import training

State = studies.State
_PROGRAM = (sys.executable, '-m', 'genre_flax.main')
_MAX_FAILURES = 5  # In a row.
_MAX_RESTARTS = 3  # Of a training that ends with a temporary status.
# 130 and 143: somebody else stopped the training.
_TEMPORARY = (
  *errors.TEMPORARY_STATUSES,
  errors.BusyError.exit_status,
  130,
  143,
)
_POLL_SECONDS = 1.0
_RESTART_SECONDS = 10.0
_NUM_LAST_LINES = 50


class _FailedError(Exception):
  """A trial failed; the arguments are the kind and the reason."""


class _InterruptedError(Exception):
  """The worker is to stop."""


class Worker:
  """Runs the trials of a study one after another."""

  def __init__(
    self, study: optuna.Study, sweep: sweep_file.Sweep, folder: epath.Path
  ):
    self._study, self._sweep, self._folder = study, sweep, folder
    self._signal: int | None = None
    is_remote = files.is_remote(folder)
    logs = tempfile.mkdtemp() if is_remote else folder / 'logs'
    self._logs = pathlib.Path(logs)
    self._logs.mkdir(exist_ok=True)

  def run(self) -> int:
    """Runs until no trial is left, or a signal arrives; the exit status.

    Raises:
      InputError: several trials in a row failed.
    """
    processes_lib.handle_stop_signals(self._on_signal)
    # A worker that died before the last trial is found within this time.
    patience = 4 * self._study._storage.get_heartbeat_interval()
    num_failures, idle_since = 0, None
    while self._signal is None:
      optuna.storages.fail_stale_trials(self._study)
      trial = studies.take(self._study, self._sweep)
      if trial is None:
        idle_since = idle_since or time.monotonic()
        is_over = time.monotonic() > idle_since + patience
        trials = self._study.get_trials(deepcopy=False)
        if is_over or all(t.state != State.RUNNING for t in trials):
          return 0
        time.sleep(_POLL_SECONDS)
        continue
      idle_since = None
      num_failures = num_failures + 1 if self._run_trial(trial) else 0
      results.write_table(self._study, self._sweep, self._folder)
      if num_failures == _MAX_FAILURES:
        raise errors.InputError(
          f'{num_failures} trials failed in a row, the last one with:'
          f' {trial.user_attrs["reason"]}. Correct the sweep and its flags, and'
          ' choose another --sweep_dir.'
        )
    return 128 + self._signal

  def _on_signal(self, number, frame):
    del frame
    if self._signal is not None:
      raise KeyboardInterrupt  # The second one does not wait.
    self._signal = number

  def _run_trial(self, trial) -> bool:
    """Trains a trial, and stores its end; whether it failed."""
    number, has_failed = studies.original_number(studies.frozen(trial)), False
    try:  # The handlers may raise UpdateFinishedTrialError, too.
      with studies.heartbeat(trial):
        try:
          score = self._score(trial, number)
          studies.finish(trial, State.COMPLETE, score)
          outcome = f'score {score:.4f}'
        except optuna.TrialPruned:
          studies.finish(trial, State.PRUNED)
          outcome = 'pruned, since others score higher'
        except _InterruptedError:
          studies.finish(trial, State.WAITING)
          outcome = 'interrupted, and queued again'
        except _FailedError as e:
          for name, value in zip(('failure', 'reason'), e.args, strict=True):
            trial.set_user_attr(name, value)
          studies.finish(trial, State.FAIL)
          has_failed, outcome = True, ': '.join(e.args)
    except optuna.exceptions.UpdateFinishedTrialError:
      outcome = 'had no heartbeat for too long, and was queued again'
    logging.info('Trial %d %s: %s', number, trial.params, outcome)
    return has_failed

  def _score(self, trial, number) -> float:
    """Trains with all seeds that are left; the mean of the scores."""
    try:
      flags = self._sweep.trial_flags(trial)
    except Exception as e:  # Of the user's code.
      raise _FailedError('bad config', f'suggest: {e!r}') from e
    scores = trial.user_attrs.get('scores', [])
    seeds = self._sweep.config['seeds']
    for seed in seeds[len(scores) :]:
      name = f'{number}/seed_{seed}' if len(seeds) > 1 else str(number)
      scores.append(self._train(trial, [*flags, f'--config.seed={seed}'], name))
      trial.set_user_attr('scores', scores)
    return sum(scores) / len(scores)

  def _train(self, trial, flags, name) -> float:
    """Runs a training, again after a temporary failure; its best value."""
    workdir = f'{self._folder}/trials/{name}'
    command = [*_PROGRAM, *flags, f'--workdir={workdir}']
    log = self._logs / f'{name.replace("/", "_")}.log'
    for attempt in range(1 + _MAX_RESTARTS):
      self._wait(_RESTART_SECONDS if attempt else 0.0)
      started = time.monotonic()
      with log.open('ab') as file:
        process = processes_lib.start(
          command, stdout=file, stderr=subprocess.STDOUT
        )
      try:
        while (status := process.poll()) is None:
          # The storage may be unavailable for a while.
          with contextlib.suppress(OSError):
            self._report(trial, workdir, is_running=True)
          self._wait(_POLL_SECONDS)
      finally:
        processes_lib.stop([process])
        seconds = trial.user_attrs.get('seconds', 0.0)
        trial.set_user_attr('seconds', seconds + time.monotonic() - started)
      if status not in _TEMPORARY:
        break
    if status:
      self._wait(0.0)  # A signal may have reached the training, too.
      with log.open(errors='replace') as file:
        output = ''.join(collections.deque(file, _NUM_LAST_LINES))
      raise _FailedError(*training.failure(status, output))
    values = self._report(trial, workdir, is_running=False)
    if not values:
      raise _FailedError('crash', f'{workdir} has no value of the objective')
    return self._sweep.best(values)

  def _wait(self, seconds):
    end = time.monotonic() + seconds
    while self._signal is None and (left := end - time.monotonic()) > 0:
      time.sleep(min(left, _POLL_SECONDS))
    if self._signal is not None:
      raise _InterruptedError

  def _report(self, trial, workdir, *, is_running) -> list[float]:
    """Reports new evaluations of the first seed, or prunes; returns all."""
    objective = self._sweep.config['objective']
    values, is_last, memory = training.read_progress(
      workdir, metric=objective['metric'], split=objective['split']
    )
    stored = studies.frozen(trial)
    if memory > stored.user_attrs.get('peak_memory_gb', 0.0):
      trial.set_user_attr('peak_memory_gb', memory)
    if stored.user_attrs.get('scores'):
      return values
    # Another worker may have reported the first ones.
    new = range(len(stored.intermediate_values), len(values))
    for number in new:
      trial.report(values[number], number + 1)
    if new and is_running and not is_last and trial.should_prune():
      raise optuna.TrialPruned
    return values
