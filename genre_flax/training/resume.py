"""Where a run starts: at its beginning, or where it was stopped."""

from collections.abc import Mapping
import json
from typing import Any

from absl import logging
import jax
import ml_collections

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import recovery
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.training import initialize
from genre_flax.training import run as run_lib
from genre_flax.training import starts
from genre_flax.training import train_state as train_state_lib

# Keys that do not change what a run computes: a resume may change them. All
# others must be the same as when the run was started.
_FREE_KEYS = (
  'dataset.data_dir',
  'dataset.cache',
  'dataset.cache_dir',
  'dataset.num_threads',
  'dataset.prefetch_batches',
  'dataset.test_split',
  'eval_batch_size',
  'eval_every_epochs',
  'checkpoint_every_steps',
  'keep_best',
  'log_every',
  'tensorboard',
  'bootstrap_samples',
  'report',
)
# Keys that a resume may change where the schedule does not depend on them.
_LENGTH_KEYS = ('num_epochs', 'num_train_steps')


def restore_or_create(
  run: run_lib.Run, checkpointer: checkpointer_lib.Checkpointer
) -> tuple[train_state_lib.TrainState, dict[str, float] | None]:
  """The state to go on from; all hosts call it.

  The resolved config is written into the workdir, and how it was started.

  Args:
    run: of `run.set_up`.
    checkpointer: of its workdir.

  Returns:
    The state, on the devices, and `TrainLog.sums` of the run so far.

  Raises:
    InputError: the workdir holds another run, or checkpoints of which none can
      be read; a source of parameters does not fit.
  """
  state = run.create_state()
  restored = recovery.restore_latest(
    checkpointer,
    jax.device_get(state.to_items()),
    check_meta=lambda meta: _check_same_run(meta, run),
  )
  sums = None
  if restored is None:
    state = state.with_variables(
      initialize.make_variables(run, state),
      optimizer=run.optimizer,
      trainable=run.config.trainable,
    )
  else:
    items, meta = restored
    state = train_state_lib.TrainState.from_items(items)
    sums = meta.get('log_sums')
    logging.info('Resuming after step %d from %s.', state.step, run.workdir)
  if parallel.is_main_host():
    resolved = json.dumps(config_lib.to_dict(run.config), indent=2)
    files.write_atomic(run.workdir / 'config.json', f'{resolved}\n')
    starts.record(run.workdir, step=int(state.step))
  return parallel.replicate(state), sums


def _check_same_run(meta, run):
  check_resumable(meta['config'], run.config)
  fingerprint = run.dataset.card['fingerprint']
  if meta['dataset_fingerprint'] != fingerprint:
    raise errors.InputError(
      'The workdir holds a run on another data set: fingerprint'
      f' {meta["dataset_fingerprint"]}, against {fingerprint} in'
      f' {run.dataset.data_dir}. Give it the data set it was started with, or'
      ' choose another --workdir.'
    )


def check_resumable(
  saved: Mapping[str, Any], config: ml_collections.ConfigDict
) -> None:
  """Refuses to go on with a run under a config that changes its meaning.

  Args:
    saved: `to_dict` of the config that the run was started with.
    config: of this start.

  Raises:
    InputError: keys differ that decide what the run computes.
  """
  free = set(_FREE_KEYS)
  if config.optimizer.schedule == 'constant':
    free.update(_LENGTH_KEYS)
  before, now = (
    config_lib.flatten(saved),
    config_lib.flatten(config_lib.to_dict(config)),
  )
  if 'features' in (before.get('dataset.cache'), now['dataset.cache']):
    # On features the frozen part drops nothing out, and is not augmented.
    free.remove('dataset.cache')
  changed = [
    f'config.{key}: {before.get(key, "(not there)")!r} when the run was'
    f' started, {now.get(key, "(not there)")!r} now'
    for key in sorted(before.keys() | now.keys())
    if key not in free and before.get(key) != now.get(key)
  ]
  if changed:
    raise errors.InputError(
      '\n  '.join(['The workdir holds a run with another config:', *changed])
      + '\nTo go on with that run, give it the config it was started with. To'
      ' start another, choose another --workdir.'
    )
