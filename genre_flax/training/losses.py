"""Losses for multi-label classification with rare labels.

All are binary cross-entropies with other weights: per-element losses of a
positive and of a negative, equal to plain binary cross-entropy with neutral
parameters. A custom loss 'module:attribute' maps logits and labels [B, L] to
losses [B].
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.runtime import custom
from genre_flax.runtime import errors

# (logits [B, L], labels [B, L]) -> losses [B].
Loss = Callable[[jax.Array, jax.Array], jax.Array]


def make_loss(
  config: Any, *, label_prior: Sequence[float], num_examples: int
) -> Loss:
  """The loss of a config.

  Args:
    config: `config.loss`.
    label_prior: [L], the share of each genre in the training split.
    num_examples: of the training split.

  Returns:
    A function of logits [B, L] and labels [B, L] in [0, 1]. It returns the
    loss of each example, summed over genres, float32 [B].

  Raises:
    InputError: a custom loss cannot be imported, or returns another shape.
  """
  if custom.is_custom(config.name):
    losses_fn = _make_custom(config, num_genres=len(label_prior))
  else:
    losses_fn = _make_built_in(
      config, label_prior=label_prior, num_examples=num_examples
    )

  def loss(logits, labels):
    if logits.shape != labels.shape:
      raise ValueError(
        f'logits {logits.shape} and labels {labels.shape} have other shapes'
        ' than [B, L]'
      )
    labels = labels.astype(jnp.float32)
    smoothing = config.label_smoothing
    smoothed = labels * (1 - smoothing) + smoothing / 2
    return losses_fn(logits=logits.astype(jnp.float32), labels=smoothed)

  return loss


def mixes_examples(loss: Loss, *, num_genres: int) -> bool:
  """Whether the loss of an example depends on other examples of the batch."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, num_genres)).astype(np.float32)
  labels = np.float32([np.arange(num_genres) % 2, np.ones(num_genres)])
  apart = [loss(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
  together = loss(logits, labels)
  return not np.allclose(together, np.concatenate(apart), rtol=1e-4, atol=1e-6)


def _make_built_in(config, *, label_prior, num_examples):
  """A function of logits and labels [B, L] that returns losses [B]."""
  elementwise = _ELEMENTWISE[config.name]
  counts = np.asarray(label_prior) * num_examples
  weights = class_balanced_weights(counts, beta=config.class_balanced_beta)

  def losses_fn(logits, labels):
    positive, negative = elementwise(logits, config)
    losses = labels * weights * positive + (1 - labels) * negative
    return losses.sum(axis=-1)

  return losses_fn


def _make_custom(config, *, num_genres):
  """The same for a custom loss, whose output shape is checked."""
  losses_fn = functools.partial(
    custom.call, config.name, key='loss.name', options=config.options
  )
  example = jax.ShapeDtypeStruct((2, num_genres), jnp.float32)
  got = jax.eval_shape(losses_fn, logits=example, labels=example)
  if getattr(got, 'shape', None) != (2,):
    raise errors.InputError(
      f'config.loss.name={config.name!r} returns'
      f' {getattr(got, "shape", type(got).__name__)} for logits and labels'
      f' {example.shape}; expected one loss per example, (2,).'
    )
  return losses_fn


def _cross_entropy(logits, config):
  """-log p of a positive, -log(1 - p) of a negative."""
  del config
  return -jax.nn.log_sigmoid(logits), -jax.nn.log_sigmoid(-logits)


def _focal(logits, config):
  """Focal loss (Lin et al., 2017, equation 4) without its class weight.

  The weight (1 - p_t) ** gamma is small for well-classified elements.
  """
  positive, negative = _cross_entropy(logits, config)
  p = jax.nn.sigmoid(logits)
  return (
    _power(1 - p, config.focal_gamma) * positive,
    _power(p, config.focal_gamma) * negative,
  )


def _asymmetric(logits, config):
  """Asymmetric loss (Ridnik et al., 2021, equations 5 to 7).

  Negatives have a larger focusing parameter than positives, and none of those
  below the probability margin counts: p_m = max(p - margin, 0).
  """
  p = jax.nn.sigmoid(logits)
  shifted = jnp.maximum(p - config.asymmetric_margin, 0.0)
  positive, negative = _cross_entropy(logits, config)
  if config.asymmetric_margin > 0:
    negative = -jnp.log1p(-shifted)
  return (
    _power(1 - p, config.asymmetric_gamma_positive) * positive,
    _power(shifted, config.asymmetric_gamma_negative) * negative,
  )


def _power(base, exponent):
  """A power with a finite gradient at base 0."""
  if exponent == 0:
    return 1.0
  is_zero = base <= 0
  safe = jnp.where(is_zero, 1.0, base)
  return jnp.where(is_zero, 0.0, safe**exponent)


_ELEMENTWISE = {
  'sigmoid_cross_entropy': _cross_entropy,
  'focal': _focal,
  'asymmetric': _asymmetric,
}


def class_balanced_weights(counts: np.ndarray, *, beta: float) -> np.ndarray:
  """Weights of positives by the effective number of examples.

  Cui et al., 2019, equation 2: (1 - beta) / (1 - beta ** n), scaled so that
  their mean over the genres that occur is 1.

  Args:
    counts: [L], positives of each genre.
    beta: [0, 1); 0 gives weights of 1.

  Returns:
    float32 [L]; 1 for a genre that does not occur.
  """
  counts = np.asarray(counts, np.float64)
  occurs = counts > 0
  if beta == 0 or not occurs.any():
    return np.ones(len(counts), np.float32)
  weights = np.ones(len(counts))
  weights[occurs] = (1 - beta) / -np.expm1(counts[occurs] * np.log(beta))
  weights[occurs] /= weights[occurs].mean()
  return weights.astype(np.float32)
