"""Checks whether a training can resume the run in its workdir."""

from collections.abc import Mapping, Sequence
import shlex
from typing import Any

from etils import epath
import jax
import ml_collections

from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.checkpoints import shapes
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from genre_flax.training import run_code
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state

# Keys that do not change the results of a run, and may change on resume.
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
  'best_metric',
  'early_stopping_epochs',
  'log_every',
  'tensorboard',
  'wandb',
  'bootstrap_samples',
  'report',
)
# Settings of JAX that change the numbers of a run.
_JAX_SETTINGS = (
  'jax_enable_x64',
  'jax_default_prng_impl',
  'jax_threefry_partitionable',
)
# Keys that may change on resume where the learning rate is constant.
_LENGTH_KEYS = ('num_epochs', 'num_train_steps')


def jax_settings() -> dict[str, Any]:
  """The settings of JAX that a resumed run must have too."""
  return {name: getattr(jax.config, name) for name in _JAX_SETTINGS}


def check_same_run(
  meta: Mapping[str, Any],
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  setup: setup_lib.Setup,
  workdir: epath.PathLike,
  allow_change: Sequence[str],
) -> None:
  """Compares the meta of a checkpoint with a training; other code is a warning.

  Raises:
    InputError: the checkpoint is of another config, setting of JAX, dataset or
      network.
  """
  check_resumable(meta['config'], config, allow_change)
  saved = meta['jax_settings']
  changed = [
    f'{name.upper()} was {saved[name]} and is now {now}'
    for name, now in jax_settings().items()
    if saved[name] != now
  ]
  if changed:
    raise errors.InputError(
      f'{"; ".join(changed)}: the results of the run in {workdir} would change.'
      ' Set the variable as before, or choose another --workdir.'
    )
  fingerprint = dataset.card['fingerprint']
  if meta['dataset_fingerprint'] != fingerprint:
    raise errors.InputError(
      'The workdir holds a run on another dataset: fingerprint'
      f' {meta["dataset_fingerprint"]}, but {fingerprint} in'
      f' {dataset.data_dir}. Give the dataset of that run, or choose another'
      ' --workdir.'
    )
  code = run_code.describe(config, setup.model)
  run_code.warn_of_changes(meta['code'], code, workdir=workdir)
  state = train_state.state_shapes(
    config, setup.variable_shapes, setup.optimizer
  )
  # Otherwise checkpoints of other shapes would count as damaged.
  structure = shapes.checksum(state.to_items())
  if meta['structure'] != structure:
    raise errors.InputError(
      f'The run in {workdir} has other parameters, or another state of the'
      ' optimizer. Resume it with its own config, code and versions of'
      f' libraries, or start a new run with'
      f' --config.init_from={shlex.quote(str(workdir))}.'
    )


def changed_keys(
  saved: Mapping[str, Any], config: ml_collections.ConfigDict
) -> dict[str, tuple[Any, Any]]:
  """Config keys that differ, and change the results of a run.

  Saved keys that a later version added count as their default, and options of
  networks that are not used are ignored.

  Returns:
    (before, now) by key.
  """
  free = set(_FREE_KEYS)
  if config.optimizer.schedule == 'constant':
    free.update(_LENGTH_KEYS)
  before, now = _flat(config_lib.from_dict(saved)), _flat(config)
  if 'features' in (before['dataset.cache'], now['dataset.cache']):
    # With cached features there is no augmentation and no backbone dropout.
    free.remove('dataset.cache')
  both = {
    key: (before.get(key, '(missing)'), now.get(key, '(missing)'))
    for key in sorted(before.keys() | now.keys())
    if key not in free and config_validation.is_used(key, config)
  }
  return {key: pair for key, pair in both.items() if pair[0] != pair[1]}


def check_resumable(
  saved: Mapping[str, Any],
  config: ml_collections.ConfigDict,
  allow_change: Sequence[str] = (),
) -> None:
  """Refuses to resume a run with a config that changes its results.

  Raises:
    InputError: lists the keys that differ.
  """
  changed = changed_keys(saved, config)
  if unknown := set(allow_change) - changed.keys() - _flat(config).keys():
    raise errors.InputError(
      f'--allow_change={",".join(sorted(unknown))}: the config has no such key;'
      ' expected keys such as optimizer.learning_rate,num_epochs.'
    )
  refused = [
    f'config.{key}: {before!r} when the run was started, {now!r} now'
    for key, (before, now) in changed.items()
    if key not in allow_change
  ]
  if refused:
    raise errors.InputError(
      '\n  '.join(['The workdir holds a run with another config:', *refused])
      + '\nResume that run with its own config, choose another --workdir, or'
      f' resume it with changes, by --allow_change={",".join(changed)}.'
    )


def _flat(config):
  return config_lib.flatten(config_lib.to_dict(config))
