"""The learning rate schedule and the optax chain."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import re
import types
from typing import Any

import jax
import ml_collections
import optax

from genre_flax.models import params as params_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.training import custom_optimizer


def make_learning_rate_fn(
  config: ml_collections.ConfigDict,
  *,
  num_train_steps: int,
  num_warmup_steps: int,
) -> Callable[[jax.Array | int], jax.Array]:
  """The learning rate: linear warm-up, then `config.schedule`; or a custom one.

  Args:
    config: `config.optimizer`.
    num_train_steps: updates of the whole run.
    num_warmup_steps: of these, with a rising learning rate.

  Returns:
    Maps the number of updates done so far to the next update's learning rate.
  """
  if custom.is_custom(config.schedule):
    return custom_optimizer.make_schedule(
      config, num_train_steps=num_train_steps, num_warmup_steps=num_warmup_steps
    )
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


def make_optimizer(
  config: ml_collections.ConfigDict,
  *,
  learning_rate_fn: Callable[[jax.Array | int], jax.Array],
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
    factor = text.learning_rate / config.learning_rate
    branch = optax.chain(
      optax.trace(decay=0.9, nesterov=True),
      optax.add_decayed_weights(text.weight_decay, mask=_is_decayed),
      optax.scale_by_learning_rate(lambda s: factor * learning_rate_fn(s)),
    )
    return optax.partition(
      {True: branch, False: image},
      lambda params: {path: _is_text(path) for path in params},
    )
  parts = []
  if config.clip_norm is not None:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  has_rate = False
  if custom.is_custom(config.name):
    base, has_rate = custom_optimizer.make_optimizer(
      config, learning_rate_fn=learning_rate_fn, param_shapes=param_shapes
    )
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
      path: decay ** below[path] * update for path, update in updates.items()
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
