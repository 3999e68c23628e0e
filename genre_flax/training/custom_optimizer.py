"""Custom schedules and optimizers, checked before the first step."""

from collections.abc import Callable, Mapping
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax.runtime import custom
from genre_flax.runtime import errors

Schedule = Callable[[jax.Array | int], jax.Array]


def make_schedule(
  config: ml_collections.ConfigDict,
  *,
  num_train_steps: int,
  num_warmup_steps: int,
) -> Schedule:
  """The custom schedule of `config.optimizer`.

  Raises:
    InputError: it cannot be imported, or a rate at the first or the last update
      is negative or not finite.
  """
  schedule = custom.call(
    config.schedule,
    key='optimizer.schedule',
    options=config.schedule_options,
    learning_rate=config.learning_rate,
    num_train_steps=num_train_steps,
    num_warmup_steps=num_warmup_steps,
  )
  for step in (0, num_train_steps - 1):
    rate = jax.jit(schedule)(step)
    if jnp.shape(rate) or not 0 <= rate < jnp.inf:
      raise errors.InputError(
        f'config.optimizer.schedule={config.schedule!r} is {rate} after {step}'
        ' updates; expected a finite number of at least 0.'
      )
  return schedule


def make_optimizer(
  config: ml_collections.ConfigDict,
  *,
  learning_rate_fn: Schedule,
  param_shapes: Mapping[str, Any],
) -> tuple[optax.GradientTransformation, bool]:
  """The custom optimizer of `config.optimizer`.

  A function with a parameter `learning_rate` makes a full optimizer, which adds
  its update to the parameters. Any other makes a direction, which is multiplied
  by minus the learning rate.

  Args:
    config: `config.optimizer`.
    learning_rate_fn: the learning rate of a full optimizer.
    param_shapes: leaves with `ndim`, by path.

  Returns:
    The transformation, and whether it is a full optimizer.

  Raises:
    InputError: it cannot be imported, or its update has the wrong sign.
  """
  key, given = 'optimizer.name', f'config.optimizer.name={config.name!r}'
  signature = inspect.signature(custom.load(config.name, key=key))
  is_full = 'learning_rate' in signature.parameters
  if 'learning_rate' in config.options or (is_full and config.weight_decay):
    raise errors.InputError(
      f'{given}: the learning rate is config.optimizer.learning_rate, and not'
      ' an option. The weight decay of a function with the parameter'
      ' `learning_rate` is an option; set config.optimizer.weight_decay to 0.0.'
    )

  def make(rate_fn):
    rate = {'learning_rate': rate_fn} if is_full else {}
    return custom.call(config.name, key=key, options=config.options, **rate)

  # With a rate of 1, since a schedule may start at 0.
  slope = _slope(make(optax.constant_schedule(1.0)), param_shapes, given)
  if not 0 < (-slope if is_full else slope) < jnp.inf:
    raise errors.InputError(
      f'{given}: the dot product of a gradient and its first update is {slope};'
      ' expected a negative one for an optimizer with the parameter'
      ' `learning_rate`, such as optax.lion, and a positive one for a direction'
      ' without it, such as optax.scale_by_lion.'
    )
  return make(learning_rate_fn), is_full


def _slope(made, param_shapes, given):
  """The product of a gradient and the first update."""
  if not isinstance(made, optax.GradientTransformation):
    raise errors.InputError(
      f'{given} returns a {type(made).__name__}; expected an'
      ' optax.GradientTransformation, such as that of optax.lion.'
    )
  params = {
    path: jnp.ones((2,) * leaf.ndim) for path, leaf in param_shapes.items()
  }
  # Not equal within an array, since some optimizers subtract the mean.
  gradients = {
    path: jnp.arange(1.0, leaf.size + 1).reshape(leaf.shape)
    for path, leaf in params.items()
  }
  try:
    updates, _ = made.update(gradients, made.init(params), params)
  except (TypeError, ValueError) as e:
    raise errors.InputError(f'{given} cannot make an update: {e}') from e
  return float(optax.tree.vdot(gradients, updates))
