"""Where the parameters of a new run come from."""

from typing import Any

import jax

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.models import params as params_lib
from genre_flax.pretrained import loader
from genre_flax.runtime import errors
from genre_flax.training import run as run_lib
from genre_flax.training import train_state as train_state_lib


def make_variables(
  run: run_lib.Run, state: train_state_lib.TrainState
) -> dict[str, Any]:
  """The variables that a new run starts from.

  In this order, each over the one before: random values; the published weights
  of config.pretrained, without their head; a head whose bias is the label
  prior, where config.head_bias_from_prior; another run's variables, of
  config.init_from.

  Args:
    run: that starts.
    state: of `Run.create_state`.

  Returns:
    {'params', 'batch_stats'}, on the host.

  Raises:
    InputError: a source is not there, or does not fit the network.
  """
  config = run.config
  variables = jax.device_get(
    {'params': state.params, 'batch_stats': state.batch_stats}
  )
  if config.pretrained:
    variables = params_lib.merge_pretrained(
      variables,
      loader.load(
        config.pretrained,
        model=config.model,
        preprocessing=config_lib.preprocessing(config),
      ),
      origin=f'the weights {config.pretrained}',
      with_head=False,
    )
  if config.head_bias_from_prior:
    variables['params'] = params_lib.with_prior_bias(
      variables['params'], run.dataset.label_prior
    )
  if config.init_from:
    step, meta, source = checkpointer_lib.read_model(
      config.init_from, step='best'
    )
    with_head = config.init_from_parts == 'all'
    if with_head:
      _check_genres(meta['genres'], run.dataset.genres, config.init_from)
    variables = params_lib.merge_pretrained(
      variables,
      source,
      origin=f'checkpoint {step} in {config.init_from}',
      with_head=with_head,
    )
  return variables


def _check_genres(theirs, ours, workdir):
  if tuple(theirs) != tuple(ours):
    raise errors.InputError(
      f'config.init_from={workdir!r} names other genres in its head than the'
      f' data set: {list(theirs)}, against {list(ours)}. Take over the backbone'
      ' alone with --config.init_from_parts=backbone.'
    )
