"""The state that a training starts from: restored, or initialized."""

from collections.abc import Sequence
import json
from typing import Any

from absl import logging
from etils import epath
import flax.linen as nn
import jax
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import recovery
from genre_flax.checkpoints import released
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import text_features
from genre_flax.models import initialization
from genre_flax.models import side_inputs
from genre_flax.models import text_branch
from genre_flax.pretrained import loader
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.runtime import rng
from genre_flax.training import resume
from genre_flax.training import run_code
from genre_flax.training import run_history
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state as train_state_lib


def restore_or_initialize(
  checkpointer: checkpointer_lib.Checkpointer,
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  setup: setup_lib.Setup,
  *,
  allow_change: Sequence[str] = (),
) -> tuple[train_state_lib.TrainState, dict[str, float] | None]:
  """Restores the latest checkpoint, or initializes a new run.

  All hosts call it. The main one writes config.json, the run's history and
  copies of its own modules.

  Returns:
    The state on the devices, and `Progress.sums` of the checkpoint.

  Raises:
    InputError: the workdir holds another run, or no checkpoint that can be
      read; initial weights do not fit the network.
    StorageError: the disk is too full.
  """
  workdir = checkpointer.workdir
  restored = _restore(checkpointer, config, dataset, setup, allow_change)
  meta = {}
  if restored is None:
    state = initial_state(config, dataset, setup)
  else:
    items, meta = restored
    state = train_state_lib.TrainState.from_items(items)
    logging.info('Resuming after step %d from %s.', state.step, workdir)
  if parallel.is_main_host():
    step = int(state.step)
    resolved = json.dumps(config_lib.to_dict(config), indent=2)
    files.write_atomic(workdir / 'config.json', f'{resolved}\n')
    changed = resume.changed_keys(meta['config'], config) if meta else {}
    run_history.record(
      workdir,
      step=step,
      sizes=setup.sizes,
      changed_keys=changed,
    )
    if meta.get('code') != run_code.describe(config, setup.model):
      run_code.save(config, workdir / run_code.FOLDER / str(step))
  return parallel.replicate(state), meta.get('log_sums')


def describe_start(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  setup: setup_lib.Setup,
  workdir: epath.PathLike,
  *,
  allow_change: Sequence[str] = (),
) -> str:
  """Describes the start of `restore_or_initialize`; nothing is written.

  Raises:
    As `restore_or_initialize`.
  """
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    restored = _restore(checkpointer, config, dataset, setup, allow_change)
  if restored is None:
    initial_state(config, dataset, setup)
    return f'{workdir} has no checkpoint to resume.'
  return (
    f'The run in {workdir} can be resumed after step'
    f' {restored[0]["optimizer"]["step"]} of {setup.sizes.num_train_steps}.'
  )


def _restore(checkpointer, config, dataset, setup, allow_change):
  """The items and the meta of the latest checkpoint, or None; all checked."""
  workdir = checkpointer.workdir
  template = checkpoint_template(config, setup)
  # A new checkpoint is complete before an old one is deleted.
  number = 1 if checkpointer.steps() else 2
  size = number * sum(leaf.nbytes for leaf in jax.tree.leaves(template))
  if size > (free := files.free_space(workdir)):
    raise errors.StorageError(
      f'No space left for {number} checkpoint(s) in {workdir}:'
      f' {size / 1e9:.3f} GB, and {free / 1e9:.3f} GB are free. Delete files'
      ' or choose another --workdir.'
    )
  restored = recovery.restore_latest(
    checkpointer,
    template,
    check_meta=lambda meta: resume.check_same_run(
      meta, config, dataset, setup, workdir, allow_change
    ),
  )
  step = restored[0]['optimizer']['step'] if restored else 0
  if step > (total := setup.sizes.num_train_steps):
    raise errors.InputError(
      f'The run in {workdir} has {step} updates; expected at least as many of'
      f' config.num_epochs or num_train_steps, not {total}.'
    )
  return restored


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

  Raises:
    InputError: a source is missing, or does not fit the network.
  """
  preprocessing = config_lib.preprocessing(config)
  variables = jax.device_get(
    train_state_lib.initialize_variables(
      side_inputs.with_defaults(
        model, text_features.side_inputs(config.model, dataset.extra_columns)
      ),
      rng.stream_key(config.seed, rng.Stream.PARAMS),
      preprocessing.image_shape,
    )
  )
  if config.pretrained:
    variables = initialization.merge_pretrained(
      variables,
      loader.load(
        config.pretrained,
        network=getattr(
          text_branch.image_network(model),
          'published_network',
          config.model.name,
        ),
        model=config.model,
        preprocessing=preprocessing,
      ),
      origin=f'the weights {config.pretrained}',
      with_head=False,
    )
  if config.head_bias_from_prior:
    variables = initialization.with_prior_bias(variables, dataset.label_prior)
  if config.init_from:
    folder = released.find(config.init_from)
    if folder is not None:
      step, meta, source = released.read(folder)
    else:
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
