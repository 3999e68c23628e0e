"""The training step: gradients, update, moving average."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax.models import params as params_lib
from genre_flax.runtime import parallel
from genre_flax.runtime import rng
from genre_flax.training import gradients
from genre_flax.training import losses
from genre_flax.training import train_state as train_state_lib

TrainState = train_state_lib.TrainState
TrainStep = Callable[
  [TrainState, parallel.Batch], tuple[TrainState, dict[str, jax.Array]]
]


def make_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  learning_rate_fn: Callable[[jax.Array | int], jax.Array],
  *,
  loss: losses.Loss,
  config: ml_collections.ConfigDict,
) -> TrainStep:
  """Makes the step for one device; `parallel.parallelize` runs it on all.

  Args:
    model: of `registry.create_model`, with axis_name=parallel.AXIS_NAME.
    optimizer: of `optimizer.make_optimizer`.
    learning_rate_fn: the same that the optimiser was made with, for the log.
    loss: of `losses.make_loss`.
    config: validated.

  Returns:
    Takes the state and one device's slice of a batch of
    `input_pipeline.train_batches`; returns the next state and metrics, the same
    on all devices: the sum 'loss' over 'count' examples, 'gradient_norm' before
    clipping, and 'learning_rate'.
  """
  gradient_fn = gradients.make_gradient_fn(model, loss=loss, config=config)

  def train_step(state, batch):
    keys = _step_keys(config.seed, state.step)
    count = jax.lax.psum((batch['mask'] > 0).sum(), parallel.AXIS_NAME)
    count = count.astype(jnp.float32)
    trained, fixed = params_lib.split(state.params, config.trainable)
    grads, (total, batch_stats) = gradient_fn(
      trained, fixed, state.batch_stats, batch, keys, count
    )
    grads, total = jax.lax.psum((grads, total), parallel.AXIS_NAME)
    updates, opt_state = optimizer.update(grads, state.opt_state, trained)
    trained = optax.apply_updates(trained, updates)
    new_state = TrainState(
      step=state.step + 1,
      params=params_lib.merge(trained, fixed),
      batch_stats=batch_stats,
      ema_params=_update_ema(state, trained, config),
      opt_state=opt_state,
    )
    return new_state, {
      'loss': total,
      'count': count,
      'gradient_norm': optax.tree.norm(grads),
      'learning_rate': jnp.asarray(learning_rate_fn(state.step), jnp.float32),
    }

  return train_step


def _step_keys(seed: int, step: jax.Array) -> dict[str, jax.Array]:
  """Keys of a step; augmentation's is the same on all devices."""
  dropout_key = rng.stream_key(seed, rng.Stream.DROPOUT, step)
  return {
    'augment': rng.stream_key(seed, rng.Stream.AUGMENT, step),
    'dropout': jax.random.fold_in(
      dropout_key, jax.lax.axis_index(parallel.AXIS_NAME)
    ),
  }


def _update_ema(state: TrainState, trained: dict, config: Any) -> Any:
  if state.ema_params is None:
    return None
  # The average starts short, or it would remember the random start.
  decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
  averages, fixed = params_lib.split(state.ema_params, config.trainable)
  averages = {
    path: decay * average + (1 - decay) * trained[path]
    for path, average in averages.items()
  }
  return params_lib.merge(averages, fixed)
