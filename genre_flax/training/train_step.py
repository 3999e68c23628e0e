"""The training step: loss, gradients, update and EMA of one device.

`parallel.parallelize` runs the step on all devices. Sums over examples are
psum-ed, so that every device computes the same update.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax.data import augmentation
from genre_flax.models import params as params_lib
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.runtime import rng
from genre_flax.training import objectives
from genre_flax.training import train_state

TrainState = train_state.TrainState
TrainStep = Callable[
  [TrainState, parallel.Batch], tuple[TrainState, dict[str, jax.Array]]
]


# Names of metrics of a step.
_RESERVED = {'loss', 'count', 'gradient_norm', 'learning_rate'}


def make_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  learning_rate_fn: Callable[[jax.Array | int], jax.Array],
  *,
  objective: objectives.MultiLabel,
  num_micro_batches: int,
  config: ml_collections.ConfigDict,
) -> TrainStep:
  """Makes the training step of one device.

  Args:
    model: of `registry.create_model`, with axis_name=parallel.AXIS_NAME.
    optimizer: of `optimizer.make_optimizer`.
    learning_rate_fn: the one of the optimizer, for the log.
    objective: of `objectives.create`.
    num_micro_batches: micro-batches of a device's batch; divides its size.
    config: validated.

  Returns:
    A function of the state and one device's slice of a batch of
    `input_pipeline.train_batches`. It returns the next state and metrics, both
    equal on all devices: 'loss' and the scalars of the objective's `aux` (sums
    over examples), 'count' (of examples), 'gradient_norm' before clipping, and
    'learning_rate'.
  """
  grad_fn = jax.grad(
    _make_loss_fn(model, objective=objective, config=config), has_aux=True
  )

  def train_step(state, batch):
    keys = step_keys(config.seed, state.step, model)
    count = jax.lax.psum((batch['mask'] > 0).sum(), parallel.AXIS_NAME)
    count = count.astype(jnp.float32)
    trained, frozen = params_lib.split(state.params, config.trainable)

    def micro_batch_grads(batch_stats, micro_batch, keys):
      return grad_fn(trained, frozen, batch_stats, micro_batch, keys, count)

    grads, sums, batch_stats = _accumulate(
      micro_batch_grads,
      trained,
      state.batch_stats,
      batch,
      keys,
      num_micro_batches=num_micro_batches,
    )
    grads, sums = jax.lax.psum((grads, sums), parallel.AXIS_NAME)
    updates, opt_state = optimizer.update(grads, state.opt_state, trained)
    trained = optax.apply_updates(trained, updates)
    new_state = TrainState(
      step=state.step + 1,
      params=params_lib.merge(trained, frozen),
      batch_stats=batch_stats,
      ema_params=_update_ema(state, trained, config),
      opt_state=opt_state,
    )
    return new_state, {
      **sums,
      'count': count,
      'gradient_norm': optax.tree.norm(grads),
      'learning_rate': jnp.asarray(learning_rate_fn(state.step), jnp.float32),
    }

  return train_step


def _make_loss_fn(model, *, objective, config):
  """The mean loss as a function of the trained parameters, and its sums."""

  def loss_fn(trained, frozen, batch_stats, batch, keys, global_count):
    params = params_lib.merge(trained, frozen)
    total, aux = objective.loss(
      model,
      {'params': params, 'batch_stats': batch_stats},
      objectives.split_inputs(augment(batch, keys['augment'], config.augment)),
      {name: key for name, key in keys.items() if name != 'augment'},
    )
    # Networks without BatchNorm return no statistics.
    batch_stats = aux.pop('batch_stats', None) or batch_stats
    if reserved := _RESERVED & aux.keys():
      raise errors.InputError(
        f'The objective has {sorted(reserved)} in `aux`; choose other names.'
      )
    return total / global_count, ({'loss': total, **aux}, batch_stats)

  return loss_fn


def augment(
  batch: parallel.Batch, key: jax.Array, config: ml_collections.ConfigDict
) -> parallel.Batch:
  """Augments the images of a batch; features have none."""
  if 'image' not in batch:
    return batch
  images, labels = augmentation.augment(
    batch['image'],
    batch['labels'],
    key=key,
    index=batch['index'],
    config=config,
  )
  return {**batch, 'image': images, 'labels': labels}


def _accumulate(
  micro_batch_grads: Callable[..., Any],
  params: Any,
  batch_stats: Any,
  batch: parallel.Batch,
  keys: dict[str, jax.Array],
  *,
  num_micro_batches: int,
):
  """Gradients and sums over examples, added over micro-batches in sequence.

  Args:
    micro_batch_grads: maps batch statistics, a batch and keys to (gradients,
      (sums, batch statistics)).
    params: with the shapes of the gradients.
    batch_stats: batch statistics before the step.
    batch: of the device.
    keys: of the step; all but 'augment' differ between micro-batches.
    num_micro_batches: divides the size of the batch.

  Returns:
    Gradients, sums and batch statistics.
  """
  if num_micro_batches == 1:
    grads, (sums, batch_stats) = micro_batch_grads(batch_stats, batch, keys)
    return grads, sums, batch_stats

  def add(carry, numbered):
    totals, batch_stats = carry
    number, micro_batch = numbered
    micro_batch_keys = {
      name: key if name == 'augment' else jax.random.fold_in(key, number)
      for name, key in keys.items()
    }
    grads, (sums, batch_stats) = micro_batch_grads(
      batch_stats, micro_batch, micro_batch_keys
    )
    return (jax.tree.map(jnp.add, totals, grads), batch_stats), sums

  micro_batches = jax.tree.map(
    lambda x: x.reshape(num_micro_batches, -1, *x.shape[1:]), batch
  )
  (grads, batch_stats), sums = jax.lax.scan(
    add,
    (jax.tree.map(jnp.zeros_like, params), batch_stats),
    (jnp.arange(num_micro_batches), micro_batches),
  )
  # In sequence, so that the sum does not depend on the compiler.
  sums = jax.tree.map(lambda x: functools.reduce(jnp.add, x), sums)
  return grads, sums, batch_stats


def step_keys(
  seed: int, step: jax.Array, model: nn.Module
) -> dict[str, jax.Array]:
  """Keys by stream; augmentation's is equal on all devices, others are not."""
  keys = {'augment': rng.stream_key(seed, rng.Stream.AUGMENT, step)}
  device = jax.lax.axis_index(parallel.AXIS_NAME)
  for name in objectives.rng_streams(model):
    key = rng.named_key(seed, name, step)
    keys[name] = jax.random.fold_in(key, device)
  return keys


def _update_ema(state: TrainState, trained: dict, config: Any) -> Any:
  """EMA of the trained parameters; frozen ones are unchanged."""
  if state.ema_params is None:
    return None
  # The decay grows, so that the average does not keep the initial values.
  decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
  averages, frozen = params_lib.split(state.ema_params, config.trainable)
  averages = {
    path: decay * average + (1 - decay) * trained[path]
    for path, average in averages.items()
  }
  return params_lib.merge(averages, frozen)
