"""All that a training step changes."""

from typing import Any

from flax import struct
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from genre_flax.models import params as params_lib
from genre_flax.runtime import target


@struct.dataclass
class TrainState:
  """The state of a run; the same on all devices, and never stacked over them.

  Attributes:
    step: int32 [], the number of updates applied.
    params: the network's parameters, float32.
    batch_stats: BatchNorm's running statistics; empty for networks without.
    ema_params: moving average of the parameters, or None.
    opt_state: of the optax chain, for the parameters that are trained.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  ema_params: Any
  opt_state: Any

  @property
  def eval_params(self) -> Any:
    """The parameters that evaluation and serving use."""
    return self.params if self.ema_params is None else self.ema_params

  def eval_variables(self) -> dict[str, Any]:
    """The variables of the network that evaluation and serving use."""
    return {'params': self.eval_params, 'batch_stats': self.batch_stats}

  def to_items(self) -> dict[str, Any]:
    """The state as the items of a checkpoint, 'model' and 'optimizer'."""
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

  def with_variables(
    self,
    variables: dict[str, Any],
    *,
    optimizer: optax.GradientTransformation,
    trainable: str,
  ) -> 'TrainState':
    """The state with other parameters and statistics, at its start.

    Args:
      variables: {'params', 'batch_stats'}.
      optimizer: of `create_train_state`; some begin with the parameters.
      trainable: of `create_train_state`.
    """
    params = jax.tree.map(jnp.asarray, variables['params'])
    trained, _ = params_lib.split(params, trainable)
    return self.replace(
      params=params,
      opt_state=optimizer.init(trained),
      batch_stats=jax.tree.map(jnp.asarray, variables['batch_stats']),
      ema_params=(
        None if self.ema_params is None else jax.tree.map(jnp.copy, params)
      ),
    )


def create_train_state(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  *,
  key: jax.Array,
  image_shape: tuple[int, int],
  trainable: str,
  use_ema: bool,
) -> TrainState:
  """Initialises the network and the optimiser.

  Args:
    model: of `registry.create_model`.
    optimizer: of `optimizer.make_optimizer`.
    key: for the parameters.
    image_shape: (height, width) in pixels.
    trainable: pattern of the parameters that are trained, of `params.split`.
    use_ema: whether to keep a moving average of the parameters.

  Returns:
    The state at step 0.
  """

  @jax.jit
  def initialize(key):
    images = jnp.zeros((1, *image_shape, 3), jnp.float32)
    # What the network makes of the images is not used, in whatever form.
    with target.traced_for(target.PORTABLE):
      variables = model.init(key, images, train=False)
    params = variables['params']
    trained, _ = params_lib.split(params, trainable)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      batch_stats=variables.get('batch_stats', {}),
      ema_params=jax.tree.map(jnp.copy, params) if use_ema else None,
      opt_state=optimizer.init(trained),
    )

  return initialize(key)


def count_parameters(params: Any) -> int:
  """Number of scalars in a tree of parameters."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))
