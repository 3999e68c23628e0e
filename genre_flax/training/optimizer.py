"""The learning rate schedule and the optax chain."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import inspect
import re
import types
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax.models import params as params_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors

Schedule = Callable[[jax.Array | int], jax.Array]


def make_learning_rate_fn(
  config: ml_collections.ConfigDict,
  *,
  num_train_steps: int,
  num_warmup_steps: int,
) -> Schedule:
  """The learning rate: linear warm-up, then `config.schedule`; or a custom one.

  Returns:
    Maps the number of updates done so far to the next update's learning rate.

  Raises:
    InputError: a custom schedule cannot be imported, or a rate at the first or
      the last update is negative or not finite.
  """
  if custom.is_custom(config.schedule):
    return _custom_schedule(config, num_train_steps, num_warmup_steps)
  peak = config.learning_rate
  final = peak * config.final_learning_rate_factor
  decay_steps = max(1, num_train_steps - num_warmup_steps)
  after = {
    'constant': optax.constant_schedule(peak),
    'cosine': optax.cosine_decay_schedule(
      peak, decay_steps, alpha=config.final_learning_rate_factor
    ),
    'linear': optax.linear_schedule(peak, final, decay_steps),
  }[config.schedule]
  if not num_warmup_steps:
    return after

  def warmup(step):
    # The first update has peak / num_warmup_steps: one with 0 is wasted.
    return peak * (step + 1) / num_warmup_steps

  return optax.join_schedules([warmup, after], [num_warmup_steps])


def _custom_schedule(config, num_train_steps, num_warmup_steps):
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
  layer_order: Sequence[str] | None = None,
  param_shapes: Mapping[str, Any] = types.MappingProxyType({}),
  text: ml_collections.ConfigDict | None = None,
) -> optax.GradientTransformation:
  """Clipping, the base optimizer, decoupled weight decay, learning rates.

  Weight decay is decoupled from the gradient's statistics (Loshchilov and
  Hutter, 2019) and scaled with the learning rate.

  Args:
    config: `config.optimizer`.
    learning_rate_fn: of `make_learning_rate_fn`.
    layer_order: of the network, an argument of `layers_below_head`;
      None where it has none.
    param_shapes: leaves with `ndim`, by the flat paths of all its parameters.
    text: `config.model.text`, for a network with a text branch. The branch has
      an optimizer of its own, SGD with Nesterov momentum and weight decay, with
      the same schedule: rates that suit its sparse inputs suit no other layer.

  Returns:
    An optax transformation of flat dicts of parameters, of `params.split`.

  Raises:
    InputError: a custom optimizer is invalid; or `layer_decay` is set and there
      is no `layer_order`.
  """
  if text is not None:
    image = make_optimizer(
      config,
      learning_rate_fn=learning_rate_fn,
      layer_order=layer_order,
      param_shapes={k: v for k, v in param_shapes.items() if not _is_text(k)},
    )
    return optax.partition(
      {True: _text_optimizer(text, config, learning_rate_fn), False: image},
      lambda params: {path: _is_text(path) for path in params},
    )
  parts = []
  if config.clip_norm is not None:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  has_rate = False
  if custom.is_custom(config.name):
    base, has_rate = _custom_optimizer(config, learning_rate_fn, param_shapes)
  elif config.name == 'adamw':
    base = optax.scale_by_adam(
      b1=config.beta1, b2=config.beta2, eps=config.epsilon
    )
  else:
    base = optax.trace(decay=config.beta1, nesterov=True)
  parts.append(base)
  if config.weight_decay:
    parts.append(
      optax.add_decayed_weights(config.weight_decay, mask=_is_decayed)
    )
  if not has_rate:
    parts.append(optax.scale_by_learning_rate(learning_rate_fn))
  if config.backbone_factor != 1:
    parts.append(
      optax.masked(optax.scale(config.backbone_factor), _is_backbone)
    )
  if config.layer_decay != 1:
    parts.append(_scale_by_layer(config.layer_decay, layer_order, param_shapes))
  return optax.chain(*parts)


def _text_optimizer(text, config, learning_rate_fn):
  factor = text.learning_rate / config.learning_rate
  return optax.chain(
    optax.trace(decay=0.9, nesterov=True),
    optax.add_decayed_weights(text.weight_decay, mask=_is_decayed),
    optax.scale_by_learning_rate(lambda s: factor * learning_rate_fn(s)),
  )


def _custom_optimizer(config, learning_rate_fn, param_shapes):
  """The custom transformation, and whether it is a full optimizer.

  A function with a parameter `learning_rate` makes a full optimizer, which adds
  its update to the parameters. Any other makes a direction, which is multiplied
  by minus the learning rate.
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


def _scale_by_layer(decay, layer_order, paths):
  """Clark et al., 2020, 'ELECTRA', section 3.1; Bao et al., 2022, 'BEiT'."""
  if layer_order is None:
    raise errors.InputError(
      f'config.optimizer.layer_decay={decay} needs the order of the layers.'
      ' Give the network an attribute `layer_order`, regular expressions of the'
      ' paths of its parameters from the images to the logits, such as'
      r" (r'block_(\d+)', 'head'), or leave layer_decay at 1."
    )
  below = layers_below_head(paths, layer_order)
  return optax.stateless(
    lambda updates, _: {
      # Entries of other optimizers are masked.
      path: decay ** below[path] * update if path in below else update
      for path, update in updates.items()
    }
  )


def _is_text(path):
  return path.startswith(f'{params_lib.TEXT}/')


def _is_decayed(params):
  """True for kernels, False for biases and norm scales; by flat paths."""
  return {path: path.endswith('/kernel') for path in params}


def _is_backbone(params):
  """False for the head, which returns the logits; by flat paths."""
  return {path: not params_lib.is_head(path) for path in params}


def layers_below_head(
  paths: Iterable[str], layer_order: Sequence[str]
) -> dict[str, int]:
  r"""The number of layers between each parameter and the logits.

  Args:
    paths: flat, such as 'backbone/block_03/mlp/expand/kernel'.
    layer_order: regular expressions of the starts of paths, from the images to
      the logits. Paths that match one with the same numbers in its groups form
      a layer: r'backbone/block_(\d+)' makes each block a layer.

  Returns:
    By path; 0 in the last layer, 1 in the layer before it.

  Raises:
    InputError: a path matches no expression.
  """
  layers = {path: _layer(path, layer_order) for path in paths}
  ranks = {
    layer: rank for rank, layer in enumerate(sorted(set(layers.values())))
  }
  return {path: len(ranks) - 1 - ranks[layers[path]] for path in layers}


def _layer(path, layer_order):
  for number, pattern in enumerate(layer_order):
    if match := re.match(pattern, path):
      return number, *(int(group or -1) for group in match.groups())
  raise errors.InputError(
    f'The parameter {path} matches no expression of layer_order'
    f' {tuple(layer_order)}.'
  )
