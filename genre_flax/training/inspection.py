"""A training batch as the network receives it, and the cost of a step."""

from collections.abc import Callable
import contextlib
import copy
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from genre_flax.runtime import parallel
from genre_flax.runtime import target
from genre_flax.training import inputs
from genre_flax.training import objectives
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state
from genre_flax.training import train_step as train_step_lib


class Inspection(NamedTuple):
  """The training batch after some updates.

  Attributes:
    films: their ids, [B].
    batch: of the input pipeline, for all devices.
    images: uint8 [B, H, W, 3], the input of the network, denormalized.
    labels: float32 [B, num_genres], with those of mixup.
    flops: of the training step, over all devices.
  """

  films: list[str]
  batch: dict[str, np.ndarray]
  images: np.ndarray
  labels: np.ndarray
  flops: float


def inspect(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  setup: setup_lib.Setup,
  *,
  step: int,
) -> Inspection:
  """Reads, augments and measures the batch after `step` updates.

  Posters are decoded without a cache. The images are the argument of the first
  call of the network by the objective, which gets the batch of all devices at
  once; random choices of an own objective are those of a single device.
  """
  config = config.copy_and_resolve_references()
  config.dataset.cache = 'none'
  batches = inputs.train_batches(
    config,
    inputs.open_split(config, dataset, config.dataset.train_split),
    sizes=setup.sizes,
    start_step=step,
  )
  with contextlib.closing(batches):
    batch = next(batches)
  device_batch = {name: value[None] for name, value in batch.items()}
  state = train_state.state_shapes(
    config, setup.variable_shapes, setup.optimizer
  )
  state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), state)
  state = state.replace(step=np.int32(step))
  normalized, labels = _on_one_device(_network_input_fn(config, setup))(
    state, device_batch
  )
  preprocessing = config_lib.preprocessing(config)
  pixels = np.asarray(normalized[0], np.float32) * preprocessing.pixel_scale
  images = np.rint(pixels + preprocessing.pixel_mean).clip(0, 255)
  examples = inputs.batch_examples(config, dataset, setup.sizes, step)
  return Inspection(
    films=[film for _, film in examples],
    batch=batch,
    images=images.astype(np.uint8),
    labels=np.asarray(labels[0]),
    flops=_flops(config, setup, state, device_batch),
  )


def _on_one_device(function: Callable[..., Any]) -> Callable[..., Any]:
  """A jitted function of the state and a batch with a leading axis of 1."""

  def portable(state, batch):
    with target.traced_for(target.PORTABLE):
      return function(state, batch)

  return jax.jit(
    jax.vmap(portable, in_axes=(None, 0), axis_name=parallel.AXIS_NAME)
  )


def _network_input_fn(config, setup):
  """A function that returns the input of the network, and the labels."""
  network = type(setup.model)

  def network_input(state, batch):
    images = []

    def record(method, arguments, options, context):
      if isinstance(context.module, network) and arguments:
        images.append(arguments[0])
      return method(*arguments, **options)

    keys = train_step_lib.step_keys(config.seed, state.step, setup.model)
    batch = train_step_lib.augment(batch, keys.pop('augment'), config.augment)
    objective, labels = copy.copy(setup.objective), [batch['labels']]
    if losses := getattr(objective, 'losses', None):
      # An objective may change the labels, as CutMix does.
      objective.losses = lambda logits, new_labels: (
        labels.append(new_labels) or losses(logits, new_labels)
      )
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    with nn.intercept_methods(record):
      objective.loss(
        setup.model, variables, objectives.split_inputs(batch), keys
      )
    return images[0], labels[-1]

  return network_input


def _flops(config, setup, state, batch):
  """Of the reference implementation, counted by XLA before optimization."""
  step = train_step_lib.make_train_step(
    setup.model,
    setup.optimizer,
    setup.learning_rate_fn,
    objective=setup.objective,
    # The count of a loop is that of one iteration.
    num_micro_batches=1,
    config=config,
  )
  return _on_one_device(step).lower(state, batch).cost_analysis()['flops']
