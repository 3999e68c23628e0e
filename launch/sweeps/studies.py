"""The Optuna study that the workers of a sweep share.

All trials are queued when the study is created: a grid with its values, others
without. Optuna's retry callback queues the trial of a dead worker again.
"""

import contextlib
import os
import pathlib
import time
from typing import Any

from etils import epath
import optuna
from optuna.storages import _heartbeat
from optuna.storages import journal

from genre_flax.runtime import errors
from genre_flax.runtime import lock
from launch.sweeps import sweep_file

State = optuna.trial.TrialState
_MAX_RETRIES = 20


def open_study(
  sweep: sweep_file.Sweep,
  folder: epath.Path,
  *,
  storage_url: str | None = None,
  heartbeat_seconds: int = 20,
) -> optuna.Study:
  """Creates or opens the study of a sweep, and queues its trials.

  By default the study is a journal in the folder. A worker without a heartbeat
  for three times `heartbeat_seconds` is dead.

  Raises:
    InputError: the study was created with another sweep file.
  """
  retry = optuna.storages.RetryHeartbeatStaleTrialCallback
  options = {
    'heartbeat_interval': heartbeat_seconds,
    'grace_period': 3 * heartbeat_seconds,
    'heartbeat_stale_trial_callback': retry(_MAX_RETRIES, True),
  }
  while True:
    # Workers that create a study at the same time fail.
    with contextlib.suppress(errors.BusyError), lock.hold(folder / '.lock', ''):
      if storage_url:
        storage = optuna.storages.RDBStorage(storage_url, **options)
      else:
        storage = _Journal(folder, **options)
      name = folder.name if storage_url else 'sweep'
      return _open(sweep, study_name=name, storage=storage)
    time.sleep(0.2)


def _open(sweep, **options):
  study = sweep.create_study(**options)
  # A study may be continued with more trials.
  now = {**sweep.config, 'num_trials': None, 'space': sweep.space}
  before = study.user_attrs.get('sweep', now)
  changed = {k: (before.get(k), now[k]) for k in now if before.get(k) != now[k]}
  if changed:
    raise errors.InputError(
      f'The study was created with another sweep; then and now: {changed}.'
      ' Restore the sweep file, or choose another --sweep_dir.'
    )
  study.set_user_attr('sweep', now)
  for number in range(len(latest_attempts(study)), sweep.num_trials):
    is_grid = sweep.config['sampler'] == 'grid'
    study.enqueue_trial(sweep.points[number] if is_grid else {})
  return study


def take(study: optuna.Study, sweep: sweep_file.Sweep) -> optuna.Trial | None:
  """Takes a queued trial, retried ones first; None if the queue is empty.

  Its sampler depends on the trial's number, not on the worker or on restarts.
  """
  storage = study._storage
  queue = study.get_trials(deepcopy=False, states=(State.WAITING,))
  for waiting in sorted(queue, key=original_number):
    # `Study.ask` would create a trial if other workers were faster.
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
      # First, since an interrupted trial has an old heartbeat.
      storage.record_heartbeat(waiting._trial_id)
      if storage.set_trial_state_values(waiting._trial_id, State.RUNNING):
        study.sampler = sweep.sampler(original_number(waiting))
        return optuna.Trial(study, waiting._trial_id)
  return None


def heartbeat(trial: optuna.Trial) -> _heartbeat.BaseHeartbeatThread:
  """A context whose thread records that the trial's worker is alive."""
  storage = trial.study._storage
  return _heartbeat.get_heartbeat_thread(trial._trial_id, storage)


def finish(
  trial: optuna.Trial, state: State, score: float | None = None
) -> None:
  """Stores the end of a trial, or queues it again in the state WAITING."""
  if frozen(trial).state != State.RUNNING:
    raise optuna.exceptions.UpdateFinishedTrialError
  if state == State.WAITING:
    trial.study._storage.set_trial_state_values(trial._trial_id, state)
  else:
    trial.study.tell(trial, score, state=state)


def frozen(trial: optuna.Trial) -> optuna.trial.FrozenTrial:
  """The values of a trial in the storage, without copies of other trials."""
  return trial.study._storage.get_trial(trial._trial_id)


def original_number(trial: optuna.trial.FrozenTrial) -> int:
  """The number of the trial that this one repeats, or its own."""
  return trial.system_attrs.get('failed_trial', trial.number)


def latest_attempts(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
  """The last attempt of each trial, in the order of the original numbers."""
  trials = study.get_trials(deepcopy=False)
  latest = {original_number(trial): trial for trial in trials}
  return [latest[number] for number in sorted(latest)]


class _Journal(journal.JournalStorage, _heartbeat.BaseHeartbeat):
  """A journal in a file, with a heartbeat file per trial; works on NFS.

  Optuna has heartbeats for databases only; of those, SQLite may give one trial
  to two workers.
  """

  def __init__(self, folder: epath.Path, **options: Any):
    path = os.fspath(folder / 'journal.log')
    super().__init__(journal.JournalFileBackend(path))
    self._folder = pathlib.Path(folder) / 'heartbeats'
    self._folder.mkdir(exist_ok=True)
    self._options = options

  def _touch(self, name):
    (self._folder / name).touch()
    return os.stat(self._folder / name).st_mtime

  def record_heartbeat(self, trial_id: int) -> None:
    with contextlib.suppress(OSError):  # The next one may succeed.
      self._touch(str(trial_id))

  def _get_stale_trial_ids(self, study_id: int) -> list[int]:
    # By the clock of the file system, which may differ from this machine's.
    now = self._touch(f'now_{os.uname().nodename}_{os.getpid()}')
    states = (State.RUNNING,)
    trials = self.get_all_trials(study_id, deepcopy=False, states=states)
    ids = [trial._trial_id for trial in trials]
    grace = self._options['grace_period']
    return [n for n in ids if now - self._last(str(n)) > grace]

  def _last(self, name):
    try:
      return os.stat(self._folder / name).st_mtime
    except FileNotFoundError:  # The worker died before its first heartbeat.
      return self._touch(name)

  def get_heartbeat_interval(self) -> int:
    return self._options['heartbeat_interval']

  def get_heartbeat_stale_trial_callback(self):
    return self._options['heartbeat_stale_trial_callback']
