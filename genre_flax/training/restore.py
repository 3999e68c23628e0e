"""The state that a training starts from: restored, or initialized."""

from collections.abc import Mapping
import json
from typing import Any

from absl import logging
import flax.linen as nn
import jax
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import recovery
from genre_flax.datasets.posters import storage
from genre_flax.models import initialization
from genre_flax.pretrained import loader
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.runtime import rng
from genre_flax.training import run_history
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state as train_state_lib

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
  'log_every',
  'tensorboard',
  'wandb',
  'bootstrap_samples',
  'report',
)
# Keys that may change on resume where the learning rate is constant.
_LENGTH_KEYS = ('num_epochs', 'num_train_steps')


def restore_or_initialize(
  checkpointer: checkpointer_lib.Checkpointer,
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  setup: setup_lib.Setup,
) -> tuple[train_state_lib.TrainState, dict[str, float] | None]:
  """Restores the latest checkpoint, or initializes a new run.

  All hosts call it. The main one writes config.json and the run's history.

  Args:
    checkpointer: of the workdir.
    config: of the run.
    dataset: to train on.
    setup: of `setup.set_up`.

  Returns:
    The state on the devices, and `Progress.sums` of the checkpoint.

  Raises:
    InputError: the workdir holds another run, or no checkpoint that can be
      read; initial weights do not fit the network.
  """
  workdir = checkpointer.workdir
  restored = recovery.restore_latest(
    checkpointer,
    checkpoint_template(config, setup),
    check_meta=lambda meta: _check_same_run(meta, config, dataset),
  )
  sums = None
  if restored is None:
    state = initial_state(config, dataset, setup)
  else:
    items, meta = restored
    state = train_state_lib.TrainState.from_items(items)
    sums = meta.get('log_sums')
    logging.info('Resuming after step %d from %s.', state.step, workdir)
  if parallel.is_main_host():
    resolved = json.dumps(config_lib.to_dict(config), indent=2)
    files.write_atomic(workdir / 'config.json', f'{resolved}\n')
    run_history.record(
      workdir,
      step=int(state.step),
      num_train_steps=setup.sizes.num_train_steps,
    )
  return parallel.replicate(state), sums


def checkpoint_template(
  config: ml_collections.ConfigDict, setup: setup_lib.Setup
) -> checkpointer_lib.Items:
  """Items of zeros with the shapes of the run's checkpoints, on the host."""
  shapes = train_state_lib.state_shapes(
    config, setup.variable_shapes, setup.optimizer
  )
  # Memory that is never written to takes no space.
  return jax.tree.map(
    lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.to_items()
  )


def initial_state(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  setup: setup_lib.Setup,
) -> train_state_lib.TrainState:
  """The state of a new run at step 0, see `initial_variables`."""
  return train_state_lib.create_train_state(
    config, initial_variables(config, dataset, setup.model), setup.optimizer
  )


def initial_variables(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  model: nn.Module,
) -> dict[str, Any]:
  """The variables of a new run, on the host.

  Each source replaces values of the one before: random values; published
  weights of `config.pretrained`, without their head; the label prior as the
  head's bias, with `config.head_bias_from_prior`; the variables of another run,
  of `config.init_from`.

  Args:
    config: of the run.
    dataset: to train on.
    model: of `registry.create_model`.

  Returns:
    {'params', 'batch_stats'}.

  Raises:
    InputError: a source is missing, or does not fit the network.
  """
  preprocessing = config_lib.preprocessing(config)
  variables = jax.device_get(
    train_state_lib.initialize_variables(
      model,
      rng.stream_key(config.seed, rng.Stream.PARAMS),
      preprocessing.image_shape,
    )
  )
  if config.pretrained:
    variables = initialization.merge_pretrained(
      variables,
      loader.load(
        config.pretrained, model=config.model, preprocessing=preprocessing
      ),
      origin=f'the weights {config.pretrained}',
      with_head=False,
    )
  if config.head_bias_from_prior:
    variables['params'] = initialization.with_prior_bias(
      variables['params'], dataset.label_prior
    )
  if config.init_from:
    step, meta, source = checkpointer_lib.read_model(
      config.init_from, step='best'
    )
    with_head = config.init_from_parts == 'all'
    if with_head and tuple(meta['genres']) != tuple(dataset.genres):
      raise errors.InputError(
        f'The head of config.init_from={config.init_from!r} has other genres'
        f' than the dataset: {list(meta["genres"])}, expected'
        f' {list(dataset.genres)}. Use the backbone only, with'
        ' --config.init_from_parts=backbone.'
      )
    variables = initialization.merge_pretrained(
      variables,
      source,
      origin=f'checkpoint {step} in {config.init_from}',
      with_head=with_head,
    )
  return variables


def _check_same_run(meta, config, dataset):
  check_resumable(meta['config'], config)
  fingerprint = dataset.card['fingerprint']
  if meta['dataset_fingerprint'] != fingerprint:
    raise errors.InputError(
      'The workdir holds a run on another dataset: fingerprint'
      f' {meta["dataset_fingerprint"]}, but {fingerprint} in'
      f' {dataset.data_dir}. Give the dataset of that run, or choose another'
      ' --workdir.'
    )


def check_resumable(
  saved: Mapping[str, Any], config: ml_collections.ConfigDict
) -> None:
  """Refuses to resume a run with a config that changes its results.

  Args:
    saved: `config.to_dict` of the run's config.
    config: of this start.

  Raises:
    InputError: lists the keys that differ.
  """
  free = set(_FREE_KEYS)
  if config.optimizer.schedule == 'constant':
    free.update(_LENGTH_KEYS)
  before = config_lib.flatten(saved)
  now = config_lib.flatten(config_lib.to_dict(config))
  if 'features' in (before.get('dataset.cache'), now['dataset.cache']):
    # With cached features there is no augmentation and no backbone dropout.
    free.remove('dataset.cache')
  changed = [
    f'config.{key}: {before.get(key, "(missing)")!r} when the run was'
    f' started, {now.get(key, "(missing)")!r} now'
    for key in sorted(before.keys() | now.keys())
    if key not in free and before.get(key) != now.get(key)
  ]
  if changed:
    raise errors.InputError(
      '\n  '.join(['The workdir holds a run with another config:', *changed])
      + '\nResume that run with its own config, or choose another --workdir.'
    )
