"""Objectives: the loss of a batch, and the scores of logits, by name.

A custom objective, 'module:attribute' in `config.objective.name`, is a class
with the methods `loss` and `predict` of `MultiLabel`. It may be derived from
it: `losses` alone changes the loss of logits, `loss` anything else, such
as mixup, auxiliary losses or distillation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax import config as config_lib
from genre_flax.evaluation import evaluator
from genre_flax.models import forward
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.training import losses


def split_inputs(batch: dict[str, Any]) -> dict[str, Any]:
  """Groups a flat batch as `MultiLabel.loss` takes it."""
  reserved = ('labels', 'mask', 'index')
  inputs = {name: x for name, x in batch.items() if name not in reserved}
  return {'inputs': inputs} | {name: batch[name] for name in reserved}


def rng_streams(model: nn.Module) -> tuple[str, ...]:
  """Names of the keys of a training step: 'objective', and the network's."""
  streams = getattr(model, 'rng_streams', ('dropout',))
  if reserved := {'objective', 'augment', 'params'}.intersection(streams):
    raise errors.InputError(
      f'The network has {sorted(reserved)} in `rng_streams`; choose other'
      ' names.'
    )
  return ('objective', *streams)


class MultiLabel:
  """Independent binary classifications, with the loss of `config.loss`.

  Attributes:
    preprocessing: of the network's images.
    mixes_examples: whether the loss of an example depends on others. Such a
      loss gets the whole batch of a device, without micro-batches, and has to
      gather the batch of all devices itself, as `loss` does.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    *,
    label_prior: Sequence[float],
    num_examples: int,
  ):
    """Creates the loss.

    Args:
      config: of the run.
      label_prior: [L], the share of each genre in the training split.
      num_examples: of the training split.
    """
    self.preprocessing = config_lib.preprocessing(config)
    self.losses = losses.make_loss(
      config.loss, label_prior=label_prior, num_examples=num_examples
    )
    self.mixes_examples = custom.is_custom(
      config.loss.name
    ) and losses.mixes_examples(self.losses, num_genres=len(label_prior))

  def loss(
    self,
    model: nn.Module,
    variables: dict[str, Any],
    batch: dict[str, Any],
    rngs: dict[str, jax.Array],
  ) -> tuple[jax.Array, dict[str, Any]]:
    """The loss of a batch in training.

    Args:
      model: the network, with parallel.AXIS_NAME bound.
      variables: {'params', 'batch_stats'} of the network.
      batch: 'inputs', a dict of augmented images [B, H, W, 3] in [0, 255] as
        'image' (or [B, F] as 'features') and extra columns; 'labels', float32
        [B, L] in [0, 1]; 'mask', float32 [B], 0 on padding; 'index', int32 [B].
      rngs: keys by stream: 'objective' and those of the network. They differ
        between devices and micro-batches.

    Returns:
      The loss, summed over the examples with mask 1, float32 []; and a dict of
      scalars to log, also sums over examples. Its entry 'batch_stats', if any,
      replaces that of the variables.
    """
    logits, updated = self.apply(model, variables, batch['inputs'], rngs)
    labels, mask = batch['labels'], batch['mask']
    count = (mask > 0).sum()
    aux = {}
    if 'batch_stats' in updated:
      aux['batch_stats'] = updated['batch_stats']
    if self.mixes_examples:
      logits, labels, mask = jax.lax.all_gather(
        (logits, labels, mask), parallel.AXIS_NAME, tiled=True
      )
    # `where`, since 0 * nan is nan: padding may hold any value.
    if logits.ndim == 3:
      by_branch = jax.vmap(self.losses, in_axes=(1, None))(logits, labels)
    else:
      by_branch = self.losses(logits, labels)[None]
    total = jnp.where(mask > 0, by_branch, 0.0).sum()
    if self.mixes_examples:
      # Every device has the loss of all; the sum over devices is one of them.
      total = total / jax.lax.axis_size(parallel.AXIS_NAME)
    if sown := jax.tree.leaves(updated.get('losses', {})):
      aux['sown_loss'] = sum(sown) * count
      total = total + aux['sown_loss']
    return total, aux

  def apply(
    self,
    model: nn.Module,
    variables: dict[str, Any],
    inputs: dict[str, jax.Array],
    rngs: dict[str, jax.Array],
  ) -> tuple[jax.Array, dict[str, Any]]:
    """Applies the network in training.

    Returns:
      Logits, float32 [B, L], or [B, n, L] of n branches, each with a loss of
      its own; and the changed variables: 'batch_stats', and 'losses' that the
      network sowed, means over examples.
    """
    return forward.forward_inputs(
      model,
      variables,
      inputs,
      self.preprocessing,
      train=True,
      rngs=rngs,
      mutable=['batch_stats', 'losses'],
    )

  def predict(self, logits: jax.Array) -> jax.Array:
    """Scores in [0, 1] of logits, both [B, L]."""
    return jax.nn.sigmoid(logits)


class SoftMax(MultiLabel):
  """Single-label classification; labels that sum to 1 after normalization."""

  def __init__(self, config, *, label_prior, num_examples):
    """See `MultiLabel`; `config.loss` is not used."""
    del label_prior, num_examples
    self.preprocessing = config_lib.preprocessing(config)
    self.losses = self._cross_entropy
    self.mixes_examples = False

  def _cross_entropy(self, logits, labels):
    shares = labels / jnp.maximum(labels.sum(axis=-1, keepdims=True), 1e-6)
    logits = logits.astype(jnp.float32)
    return -(shares * jax.nn.log_softmax(logits)).sum(axis=-1)

  def predict(self, logits: jax.Array) -> jax.Array:
    """See `MultiLabel.predict`."""
    return jax.nn.softmax(logits)


OBJECTIVES = {'multilabel': MultiLabel, 'softmax': SoftMax}


def create(
  config: ml_collections.ConfigDict,
  *,
  label_prior: Sequence[float],
  num_examples: int = 0,
) -> MultiLabel:
  """Creates the objective of a config.

  Raises:
    InputError: custom code cannot be imported, or lacks the methods.
  """
  arguments = {'label_prior': label_prior, 'num_examples': num_examples}
  name = config.objective.name
  if not custom.is_custom(name):
    return OBJECTIVES[name](config, **arguments)
  made = custom.call(
    name,
    key='objective.name',
    options=config.objective.options,
    config=config,
    **arguments,
  )
  if not all(callable(getattr(made, x, None)) for x in ('loss', 'predict')):
    raise errors.InputError(
      f'config.objective.name={name!r} returns a {type(made).__name__};'
      ' expected an object with the methods `loss` and `predict` of'
      ' genre_flax.training.objectives.MultiLabel.'
    )
  return made


def logits_fn(
  config: ml_collections.ConfigDict, *, label_prior: Sequence[float]
) -> Callable[[jax.Array], jax.Array] | None:
  """A function from a network's logits to those whose sigmoids are its scores.

  Evaluation, calibration and exports compute sigmoids of logits. None where
  the network's logits are these already.

  Raises:
    InputError: of `create`.
  """
  # A custom loss, whose code may be missing, is not imported for predictions.
  if config.objective.name == 'multilabel':
    return None
  objective = create(config, label_prior=label_prior)
  if getattr(type(objective), 'predict', None) is MultiLabel.predict:
    return None

  def convert(logits):
    tiny = 1e-7
    scores = jnp.clip(objective.predict(logits), tiny, 1 - tiny)
    return jnp.log(scores) - jnp.log1p(-scores)

  return convert


def losses_of(
  objective: MultiLabel,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
  """The losses [B] of logits and labels [B, L]; cross-entropy by default."""

  def cross_entropy(logits, labels):
    return optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=-1)

  return getattr(objective, 'losses', cross_entropy)


def mean_loss(
  objective: MultiLabel, predictions: evaluator.Predictions
) -> dict[str, float]:
  """{'loss'}, the mean over a split, where it is a function of the logits.

  A subclass of `MultiLabel` with another method `loss` has it only with the
  attribute `has_validation_loss = True`: that of its `losses`.
  """
  is_built_in = type(objective).loss is MultiLabel.loss
  if not getattr(objective, 'has_validation_loss', is_built_in):
    return {}
  logits = predictions.network_logits
  if logits is None:
    logits = predictions.logits
  return {'loss': float(objective.losses(logits, predictions.labels).mean())}
