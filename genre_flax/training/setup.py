"""The set-up of a training: everything that is fixed before its first step."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import logging
from etils import epath
import flax.linen as nn
import jax
import ml_collections
import optax

from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.datasets.posters import storage
from genre_flax.models import params as params_lib
from genre_flax.models import registry
from genre_flax.runtime import parallel
from genre_flax.training import inputs
from genre_flax.training import losses
from genre_flax.training import optimizer as optimizer_lib
from genre_flax.training import progress
from genre_flax.training import train_step as train_step_lib


class Setup(NamedTuple):
  """Values that are fixed before the first step.

  Attributes:
    sizes: batch sizes and numbers of steps.
    model: the network, to be run by `parallel.parallelize`.
    variable_shapes: of the network, {'params', 'batch_stats'}.
    loss_fn: of `losses.make_loss`.
    learning_rate_fn: maps updates done so far to the next learning rate.
    optimizer: the optax chain.
  """

  sizes: config_lib.Sizes
  model: nn.Module
  variable_shapes: dict[str, Any]
  loss_fn: losses.Loss
  learning_rate_fn: Callable[[jax.Array | int], jax.Array]
  optimizer: optax.GradientTransformation


def set_up(
  config: ml_collections.ConfigDict, workdir: epath.PathLike
) -> tuple[storage.PosterDataset, Setup]:
  """Validates the config and the dataset, builds the run, and describes it.

  Args:
    config: with every key of configs/default.py.
    workdir: of the run; a synthetic dataset is written into it.

  Raises:
    InputError: the config or the dataset does not fit.
    DamageError: the dataset is damaged.
  """
  config_validation.validate(config)
  dataset = inputs.open_dataset(config, epath.Path(workdir))
  inputs.check_splits(config, dataset)
  setup = build(
    config,
    num_train_examples=dataset.num_examples(config.dataset.train_split),
    label_prior=dataset.label_prior,
    num_devices=parallel.num_devices(),
  )
  if parallel.is_main_host():
    described = progress.describe_parameters(
      setup.variable_shapes['params'], trainable=config.trainable
    )
    logging.info('%s', progress.describe_run(config, setup.sizes, dataset))
    logging.info('%s', described)
  return dataset, setup


def build(
  config: ml_collections.ConfigDict,
  *,
  num_train_examples: int,
  label_prior: Sequence[float],
  num_devices: int,
) -> Setup:
  """Builds the network, the loss and the optimizer, and checks that they fit.

  Args:
    config: validated.
    num_train_examples: posters of the training split.
    label_prior: [num_genres], shares of positives in the training split.
    num_devices: of all hosts together.

  Raises:
    InputError: the batch does not divide among the devices, no parameter is
      trained, or custom code does not keep its contract.
  """
  sizes = config_lib.compute_sizes(
    config,
    num_train_examples=num_train_examples,
    num_devices=num_devices,
  )
  num_genres = len(label_prior)
  model = registry.create_from_config(
    config.model, num_genres=num_genres, axis_name=parallel.AXIS_NAME
  )
  registry.check_attributes(config, model)
  variable_shapes = registry.variable_shapes(
    model,
    name=config.model.name,
    image_shape=config_lib.image_shape(config),
    num_genres=num_genres,
  )
  params = variable_shapes['params']
  params_lib.check_pattern(params, config.trainable)
  if config.head_bias_from_prior:
    params_lib.check_head_bias(params, model_name=config.model.name)
  loss_fn = losses.make_loss(
    config.loss,
    label_prior=label_prior,
    num_examples=num_train_examples,
  )
  learning_rate_fn = optimizer_lib.make_learning_rate_fn(
    config.optimizer,
    num_train_steps=sizes.num_train_steps,
    num_warmup_steps=sizes.num_warmup_steps,
  )
  optimizer = optimizer_lib.make_optimizer(
    config.optimizer,
    learning_rate_fn=learning_rate_fn,
    layer_order=getattr(model, 'layer_order', None),
    param_shapes=params_lib.flatten(params, sep='/'),
  )
  return Setup(
    sizes, model, variable_shapes, loss_fn, learning_rate_fn, optimizer
  )


def make_train_step(
  config: ml_collections.ConfigDict,
  setup: Setup,
  *,
  devices: Sequence[jax.Device] | None = None,
) -> train_step_lib.TrainStep:
  """The training step on all devices, or on `devices`; it donates the state."""
  step = train_step_lib.make_train_step(
    setup.model,
    setup.optimizer,
    setup.learning_rate_fn,
    loss_fn=setup.loss_fn,
    config=config,
  )
  return parallel.parallelize(step, donate_state=True, devices=devices)
