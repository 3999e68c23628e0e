"""A worker of a sweep: takes trials, trains them and reports their scores."""

import collections
from collections.abc import Callable
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl import logging
from etils import epath
import optuna

from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch.sweeps import studies
from launch.sweeps import sweep_file
from launch.sweeps import training

_MAX_FAILURES = 5  # In a row.
_MAX_RESTARTS = 3  # Of a training that ends with a temporary status.
_TEMPORARY = (*errors.TEMPORARY_STATUSES, errors.BusyError.exit_status)
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
    self,
    study: optuna.Study,
    sweep: sweep_file.Sweep,
    *,
    folder: epath.Path,
    on_change: Callable[[], None],
  ):
    """Prepares a worker that calls `on_change` after each trial."""
    self._study = study
    self._sweep = sweep
    self._folder = folder
    self._on_change = on_change
    self._signal: int | None = None
    is_remote = files.is_remote(folder)
    self._logs = pathlib.Path(
      tempfile.mkdtemp() if is_remote else folder / 'logs'
    )
    self._logs.mkdir(exist_ok=True)

  def run(self) -> int:
    """Runs until no trial is left, or a signal arrives; the exit status.

    Raises:
      InputError: several trials in a row failed.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
      signal.signal(number, self._on_signal)
    num_failures, idle_since = 0, None
    while self._signal is None:
      optuna.storages.fail_stale_trials(self._study)
      trial = studies.take(self._study, self._sweep)
      if trial is None:
        # A worker that died before now is found within the grace period.
        idle_since = idle_since or time.monotonic()
        states = (studies.State.RUNNING,)
        running = self._study.get_trials(deepcopy=False, states=states)
        end = idle_since + studies.grace_seconds(self._study) + _POLL_SECONDS
        if not running or time.monotonic() > end:
          return 0
        time.sleep(_POLL_SECONDS)
        continue
      idle_since = None
      num_failures = num_failures + 1 if self._run_trial(trial) else 0
      self._on_change()
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
    """Trains a trial, and tells the study its end; whether it failed."""
    number, failure = studies.original_number(trial), None
    try:
      score = self._score(trial, self._sweep.suggest(trial))
      self._study.tell(trial, score)
      outcome = f'score {score:.4f}'
    except optuna.TrialPruned:
      self._study.tell(trial, state=studies.State.PRUNED)
      outcome = 'pruned, since others score higher'
    except _InterruptedError:
      studies.retry(trial)
      outcome = 'interrupted, and queued again'
    except optuna.exceptions.UpdateFinishedTrialError:
      outcome = 'had no heartbeat for too long, and was queued again'
    except _FailedError as e:
      failure = dict(zip(('failure', 'reason'), e.args, strict=True))
      for name, value in failure.items():
        trial.set_user_attr(name, value)
      self._study.tell(trial, state=studies.State.FAIL)
      outcome = ': '.join(e.args)
    logging.info('Trial %d %s: %s', number, trial.params, outcome)
    return failure is not None

  def _score(self, trial, flags) -> float:
    """Trains with all seeds that are left; the mean of the scores."""
    scores = trial.user_attrs.get('scores', [])
    seeds = self._sweep.config['seeds']
    for seed in seeds[len(scores) :]:
      name = str(studies.original_number(trial))
      if len(seeds) > 1:
        name = f'{name}/seed_{seed}'
      workdir = f'{self._folder}/trials/{name}'
      command = [
        *(sys.executable, '-m', 'genre_flax.main', *flags),
        f'--config.seed={seed}',
        f'--workdir={workdir}',
      ]
      log = self._logs / f'{name.replace("/", "_")}.log'
      scores.append(self._train(trial, command, workdir=workdir, log=log))
      trial.set_user_attr('scores', scores)
    return sum(scores) / len(scores)

  def _train(self, trial, command, *, workdir, log) -> float:
    """Runs a training, again after a temporary failure; its best value."""
    for _ in range(1 + _MAX_RESTARTS):
      started = time.monotonic()
      with log.open('ab') as file:
        process = training.start(command, stdout=file, stderr=subprocess.STDOUT)
      try:
        while (status := process.poll()) is None:
          self._report(trial, workdir, is_running=True)
          self._wait(trial, _POLL_SECONDS)
      finally:
        training.stop(process)
        seconds = (
          trial.user_attrs.get('seconds', 0) + time.monotonic() - started
        )
        trial.set_user_attr('seconds', seconds)
      if status not in _TEMPORARY:
        break
      self._wait(trial, _RESTART_SECONDS)
    if status:
      with log.open(errors='replace') as file:
        output = ''.join(collections.deque(file, _NUM_LAST_LINES))
      raise _FailedError(*training.failure(status, output))
    values = self._report(trial, workdir, is_running=False)
    if not values:
      raise _FailedError('crash', f'{workdir} has no value of the objective')
    return self._sweep.best(values)

  def _wait(self, trial, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
      studies.record_heartbeat(trial)
      if self._signal is not None:
        raise _InterruptedError
      time.sleep(_POLL_SECONDS)

  def _report(self, trial, workdir, *, is_running) -> list[float]:
    """Reports new evaluations of the first seed; returns all evaluations.

    Raises:
      TrialPruned: others score higher, and further evaluations remain.
    """
    objective = self._sweep.config['objective']
    values, is_last, memory = training.read_progress(
      workdir, metric=objective['metric'], split=objective['split']
    )
    if memory > trial.user_attrs.get('peak_memory_gb', 0.0):
      trial.set_user_attr('peak_memory_gb', memory)
    if trial.user_attrs.get('scores'):
      return values
    reported = self._study.trials[trial.number].intermediate_values
    new = {n: v for n, v in enumerate(values, 1) if n not in reported}
    for number, value in new.items():
      trial.report(value, number)
    if new and is_running and not is_last and trial.should_prune():
      raise optuna.TrialPruned
    return values
