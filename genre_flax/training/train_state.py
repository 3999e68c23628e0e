"""The training state."""

from typing import Any

from flax import struct
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax.models import params as params_lib
from genre_flax.runtime import parallel
from genre_flax.runtime import target


@struct.dataclass
class TrainState:
  """The state of a run; equal on all devices, and not stacked over them.

  Attributes:
    step: int32 [], number of updates.
    params: parameters of the network, float32.
    batch_stats: running statistics of BatchNorm; empty for networks without.
    ema_params: EMA of the parameters, or None.
    opt_state: state of the optax chain, for the trained parameters.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  ema_params: Any
  opt_state: Any

  def eval_variables(self) -> dict[str, Any]:
    """Variables for evaluation: with the EMA where there is one."""
    params = self.params if self.ema_params is None else self.ema_params
    return {'params': params, 'batch_stats': self.batch_stats}

  def with_statistics(self, values: dict[str, Any]) -> 'TrainState':
    """The state with some other entries of `batch_stats`, on the devices."""
    return self.replace(
      batch_stats={**self.batch_stats, **parallel.replicate(values)}
    )

  def to_items(self) -> dict[str, Any]:
    """The items of a checkpoint, 'model' and 'optimizer'."""
    model = {'params': self.params, 'batch_stats': self.batch_stats}
    if self.ema_params is not None:
      model['ema_params'] = self.ema_params
    optimizer = {'step': self.step, 'opt_state': self.opt_state}
    return {'model': model, 'optimizer': optimizer}

  @classmethod
  def from_items(cls, items: dict[str, Any]) -> 'TrainState':
    """The inverse of `to_items`."""
    model, optimizer = items['model'], items['optimizer']
    return cls(
      step=optimizer['step'],
      params=model['params'],
      batch_stats=model['batch_stats'],
      ema_params=model.get('ema_params'),
      opt_state=optimizer['opt_state'],
    )


def create_train_state(
  config: ml_collections.ConfigDict,
  variables: dict[str, Any],
  optimizer: optax.GradientTransformation,
) -> TrainState:
  """The state at step 0, from variables {'params', 'batch_stats'}."""
  params = jax.tree.map(jnp.asarray, variables['params'])
  trained, _ = params_lib.split(params, config.trainable)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=jax.tree.map(jnp.asarray, variables['batch_stats']),
    ema_params=jax.tree.map(jnp.copy, params) if config.ema_decay > 0 else None,
    opt_state=optimizer.init(trained),
  )


def state_shapes(
  config: ml_collections.ConfigDict,
  variable_shapes: dict[str, Any],
  optimizer: optax.GradientTransformation,
) -> TrainState:
  """The shapes and dtypes of `create_train_state`; nothing is computed."""
  return jax.eval_shape(
    lambda variables: create_train_state(config, variables, optimizer),
    variable_shapes,
  )


def initialize_variables(
  model: nn.Module, key: jax.Array, image_shape: tuple[int, int]
) -> dict[str, Any]:
  """Random variables of a network, {'params', 'batch_stats'}."""

  @jax.jit
  def initialize(key):
    images = jnp.zeros((1, *image_shape, 3), jnp.float32)
    # The outputs are unused: reference implementations compile faster.
    with target.traced_for(target.PORTABLE):
      return model.init(key, images, train=False)

  variables = initialize(key)
  return {
    'params': variables['params'],
    'batch_stats': variables.get('batch_stats', {}),
  }


def count_parameters(params: Any) -> int:
  """Number of scalars in a tree of parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
