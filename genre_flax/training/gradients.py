"""Gradients of one device's examples, at once or in parts."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from genre_flax import config as config_lib
from genre_flax.data import augmentation
from genre_flax.models import forward
from genre_flax.models import params as params_lib
from genre_flax.runtime import parallel
from genre_flax.runtime import target
from genre_flax.training import losses

# (trained, fixed, batch_stats, batch, keys, global_count) -> (gradients,
# (loss, batch_stats)). Parameters are flat dicts of `params.split`; keys are
# {'augment', 'dropout'}. Gradients and loss are of the sum over the device's
# examples: the loss is not yet divided by `global_count`, gradients are.
GradientFn = Callable[..., tuple[dict[str, jax.Array], tuple[jax.Array, Any]]]


def make_gradient_fn(
  model: nn.Module,
  *,
  loss: losses.Loss,
  config: ml_collections.ConfigDict,
) -> GradientFn:
  """Makes the function that a step gets its gradients from.

  Args:
    model: of `registry.create_model`.
    loss: of `losses.make_loss`.
    config: validated.

  Returns:
    A function as above. It goes through a batch in `config.accumulate_steps`
    parts, and on CPU in smaller ones, one after the other.
  """
  gradient_fn = jax.grad(
    _make_loss_fn(model, loss=loss, config=config), has_aux=True
  )

  def in_parts(trained, fixed, batch_stats, batch, keys, global_count):
    num_parts = config.accumulate_steps
    if target.platform() == 'cpu' and not model.mixes_examples:
      num_parts *= _num_parts_on_cpu(batch, num_parts)
    if num_parts == 1:
      return gradient_fn(trained, fixed, batch_stats, batch, keys, global_count)
    return _sum_over_parts(
      gradient_fn,
      trained,
      fixed,
      batch_stats,
      batch,
      keys,
      global_count,
      num_parts=num_parts,
    )

  return in_parts


def _make_loss_fn(model, *, loss, config):
  """The loss as a function of the parameters that are trained."""
  preprocessing = config_lib.preprocessing(config)

  def loss_fn(trained, fixed, batch_stats, batch, keys, global_count):
    variables = {
      'params': params_lib.merge(trained, fixed),
      'batch_stats': batch_stats,
    }
    options = {
      'train': True,
      'rngs': {'dropout': keys['dropout']},
      'mutable': ['batch_stats'],
    }
    labels = batch['labels']
    if 'features' in batch:
      logits, changed = model.apply(
        variables, batch['features'], method='classify', **options
      )
    else:
      images, labels = augmentation.augment(
        batch['image'],
        labels,
        key=keys['augment'],
        index=batch['index'],
        config=config.augment,
      )
      logits, changed = forward.forward(
        model, variables, images, preprocessing, **options
      )
    total, _ = loss(logits, labels, batch['mask'])
    # A pass that changes no statistics returns none.
    batch_stats = changed.get('batch_stats') or batch_stats
    return total / global_count, (total, batch_stats)

  return loss_fn


def _sum_over_parts(
  gradient_fn: GradientFn,
  trained: dict[str, jax.Array],
  fixed: dict[str, jax.Array],
  batch_stats: Any,
  batch: parallel.Batch,
  keys: dict[str, jax.Array],
  global_count: jax.Array,
  *,
  num_parts: int,
):
  """Sums gradients and losses over equal parts, each with its own dropout."""
  parts = jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), batch)

  def add_part(carry, numbered_part):
    grads, (total, batch_stats) = carry
    number, part = numbered_part
    dropout_key = jax.random.fold_in(keys['dropout'], number)
    part_grads, (part_total, batch_stats) = gradient_fn(
      trained,
      fixed,
      batch_stats,
      part,
      {**keys, 'dropout': dropout_key},
      global_count,
    )
    grads = jax.tree.map(jnp.add, grads, part_grads)
    return (grads, (total + part_total, batch_stats)), None

  zeros = jax.tree.map(jnp.zeros_like, trained)
  carry, _ = jax.lax.scan(
    add_part,
    (zeros, (jnp.zeros(()), batch_stats)),
    (jnp.arange(num_parts), parts),
  )
  return carry


def _num_parts_on_cpu(batch, num_parts):
  """How often to divide each of the parts of a batch, to stay in the caches.

  Training is up to 1.4 times faster for it, and takes a third less memory.
  """
  if 'image' not in batch:
    return 1
  size = len(batch['image']) // num_parts
  # Even sizes alone: mixup blends pairs in each part.
  sizes = [n for n in (4, 2) if size % n == 0]
  return size // sizes[0] if sizes else 1
