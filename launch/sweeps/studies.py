"""The Optuna study that the workers of a sweep share.

All trials are queued when the study is created: a grid with its values, others
without. The trial of a dead worker is queued again by Optuna's heartbeat and
retry callback, with its values.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import time

from etils import epath
import numpy as np
import optuna
from optuna.storages import _heartbeat
from optuna.storages import journal

from genre_flax.runtime import errors
from genre_flax.runtime import lock
from launch.sweeps import sweep_file

State = optuna.trial.TrialState
_MAX_RETRIES = 20
_INTERVALS_PER_GRACE_PERIOD = 3


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
  retry_callback = optuna.storages.RetryHeartbeatStaleTrialCallback(
    max_retry=_MAX_RETRIES, inherit_intermediate_values=True
  )
  options = {
    'heartbeat_interval': heartbeat_seconds,
    'grace_period': _INTERVALS_PER_GRACE_PERIOD * heartbeat_seconds,
    'heartbeat_stale_trial_callback': retry_callback,
  }
  # Workers that create a study at the same time fail.
  with _exclusively(folder):
    if storage_url:
      storage = optuna.storages.RDBStorage(storage_url, **options)
    else:
      storage = _Journal(folder, options)
    study = optuna.create_study(
      study_name=folder.name if storage_url else 'sweep',
      storage=storage,
      direction=sweep.config['objective']['direction'],
      pruner=_make_pruner(sweep.config['pruner']),
      load_if_exists=True,
    )
    _check_same(study, sweep)
    is_grid = sweep.config['sampler'] == 'grid'
    points = sweep_file.grid(sweep.space) if is_grid else []
    for number in range(len(latest_attempts(study)), sweep.num_trials):
      study.enqueue_trial(points[number] if is_grid else {})
  return study


def take(study: optuna.Study, sweep: sweep_file.Sweep) -> optuna.Trial | None:
  """Takes a queued trial, retried ones first; None if the queue is empty.

  The sampler's seed depends on the trial's number, and not on the worker or on
  restarts.
  """
  storage = study._storage
  waiting = study.get_trials(deepcopy=False, states=(State.WAITING,))
  for frozen in sorted(waiting, key=original_number):
    # `Study.ask` would create a trial if other workers were faster.
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
      if storage.set_trial_state_values(frozen._trial_id, State.RUNNING):
        storage.record_heartbeat(frozen._trial_id)
        study.sampler = _make_sampler(sweep.config, original_number(frozen))
        return optuna.Trial(study, frozen._trial_id)
  return None


def record_heartbeat(trial: optuna.Trial) -> None:
  """Records that the worker of a trial is alive."""
  trial.study._storage.record_heartbeat(trial._trial_id)


def retry(trial: optuna.Trial) -> None:
  """Queues an interrupted trial again, with its number and values."""
  storage = trial.study._storage
  storage.set_trial_state_values(trial._trial_id, State.WAITING)


def grace_seconds(study: optuna.Study) -> float:
  """Time without a heartbeat after which a worker is dead."""
  interval = study._storage.get_heartbeat_interval()
  return _INTERVALS_PER_GRACE_PERIOD * interval


def original_number(trial: optuna.Trial | optuna.trial.FrozenTrial) -> int:
  """The number of the trial that this one repeats, or its own."""
  if isinstance(trial, optuna.Trial):
    trial = trial.study.trials[trial.number]
  return trial.system_attrs.get('failed_trial', trial.number)


def latest_attempts(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
  """The last attempt of each trial, in the order of the original numbers."""
  latest = {original_number(trial): trial for trial in study.trials}
  return [latest[number] for number in sorted(latest)]


class _Journal(journal.JournalStorage, _heartbeat.BaseHeartbeat):
  """A journal in a file, with a heartbeat file per trial.

  It works on NFS. Optuna has heartbeats for databases only; of those, SQLite
  may give one trial to two workers.
  """

  def __init__(self, folder, options):
    path = os.fspath(folder / 'journal.log')
    super().__init__(journal.JournalFileBackend(path))
    self._folder = pathlib.Path(folder) / 'heartbeats'
    self._folder.mkdir(exist_ok=True)
    self._options = options

  def _touch(self, name):
    (self._folder / name).touch()
    return os.stat(self._folder / name).st_mtime

  def record_heartbeat(self, trial_id: int) -> None:
    self._touch(str(trial_id))

  def _get_stale_trial_ids(self, study_id: int) -> list[int]:
    # By the clock of the file system, which may differ from this machine's.
    now = self._touch(f'now_{os.uname().nodename}_{os.getpid()}')
    states = (State.RUNNING,)
    trials = self.get_all_trials(study_id, deepcopy=False, states=states)
    ids = [trial._trial_id for trial in trials]
    grace = self._options['grace_period']
    return [number for number in ids if now - self._last(str(number)) > grace]

  def _last(self, name):
    try:
      return os.stat(self._folder / name).st_mtime
    except FileNotFoundError:  # The worker died before its first heartbeat.
      return self._touch(name)

  def get_heartbeat_interval(self) -> int:
    return self._options['heartbeat_interval']

  def get_heartbeat_stale_trial_callback(self):
    return self._options['heartbeat_stale_trial_callback']


@contextlib.contextmanager
def _exclusively(folder: epath.Path) -> Iterator[None]:
  with contextlib.ExitStack() as stack:
    while True:
      try:
        stack.enter_context(lock.hold(folder / '.lock', ''))
        break
      except errors.BusyError:
        time.sleep(0.2)
    yield


def _check_same(study, sweep):
  # A study may be continued with more trials.
  now = {**sweep.config, 'num_trials': None}
  before = study.user_attrs.get('sweep', now)
  changed = {
    key: (before.get(key), now[key])
    for key in now
    if before.get(key) != now[key]
  }
  if changed:
    raise errors.InputError(
      f'The study was created with another sweep; then and now: {changed}.'
      ' Restore the sweep file, or choose another --sweep_dir.'
    )
  study.set_user_attr('sweep', now)


def _make_sampler(config, number):
  entropy = [config['sampler_seed'], number]
  seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
  if config['sampler'] == 'tpe':
    # Running trials count as bad, so that workers try different values.
    return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
  return optuna.samplers.RandomSampler(seed=seed)


def _make_pruner(pruner):
  classes = {
    'asha': optuna.pruners.SuccessiveHalvingPruner,
    'hyperband': optuna.pruners.HyperbandPruner,
  }
  if pruner['name'] == 'none':
    return optuna.pruners.NopPruner()
  return classes[pruner['name']](
    min_resource=pruner['min_evaluations'],
    reduction_factor=pruner['reduction_factor'],
  )
