"""The one evaluation that training and the eval binary share."""

from collections.abc import Callable, Iterable
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from scipy import special

from genre_flax import augment
from genre_flax import input_pipeline
from genre_flax import metrics
from genre_flax import parallel

Variables = dict[str, Any]
EvalStep = Callable[[Variables, parallel.Batch], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Predictions:
  """What a network says of every example of a split, in the split's order.

  Attributes:
    scores: float64 [N, num_genres], probabilities.
    labels: float32 [N, num_genres] of 0 and 1.
    loss: mean over examples of the cross-entropy summed over genres.
  """

  scores: np.ndarray
  labels: np.ndarray
  loss: float


def make_eval_step(
  model: nn.Module, *, pixel_mean: float, pixel_scale: float
) -> EvalStep:
  """Makes the evaluation step for all devices.

  Args:
    model: of `models.create_model`.
    pixel_mean: of the preprocessing.
    pixel_scale: of the preprocessing.

  Returns:
    Takes the variables of the model and a sharded batch of
    `input_pipeline.eval_batches`; returns 'logits', 'labels', 'mask' and
    'index' of the whole global batch, and the sum 'loss' and its 'count'.
  """

  def eval_step(variables, batch):
    images = augment.normalize(
      batch['image'], pixel_mean=pixel_mean, pixel_scale=pixel_scale
    )
    logits = model.apply(variables, images, train=False)
    loss, count = metrics.sigmoid_cross_entropy(
      logits, batch['labels'], batch['mask']
    )
    own = {
      'logits': logits,
      'labels': batch['labels'],
      'mask': batch['mask'],
      'index': batch['index'],
    }
    gathered = jax.lax.all_gather(own, parallel.AXIS_NAME, tiled=True)
    summed = jax.lax.psum({'loss': loss, 'count': count}, parallel.AXIS_NAME)
    return {**gathered, **summed}

  return parallel.parallelize(eval_step)


def evaluate(
  eval_step: EvalStep,
  variables: Variables,
  batches: Iterable[parallel.Batch],
  *,
  num_examples: int,
  num_genres: int,
) -> Predictions:
  """Runs a network over a whole split; all hosts call it.

  Args:
    eval_step: of `make_eval_step`.
    variables: 'params' and 'batch_stats', placed by `parallel.replicate`.
    batches: of `input_pipeline.eval_batches`.
    num_examples: of the split over all hosts; at least 1.
    num_genres: number of labels.

  Returns:
    The predictions, the same on all hosts.

  Raises:
    RuntimeError: an example was missing, or was seen twice.
  """
  logits = np.zeros((num_examples, num_genres), np.float32)
  labels = np.zeros((num_examples, num_genres), np.float32)
  times_seen = np.zeros(num_examples, int)
  loss = count = 0.0

  def collect(output):
    nonlocal loss, count
    output = jax.device_get(output)
    is_real = output['mask'] > 0
    index = output['index'][is_real]
    logits[index] = output['logits'][is_real]
    labels[index] = output['labels'][is_real]
    np.add.at(times_seen, index, 1)
    loss += float(output['loss'])
    count += float(output['count'])

  pending = None
  for batch in parallel.shard_ahead(batches):
    output = eval_step(variables, batch)
    # The last batch is fetched while this one is computed.
    if pending is not None:
      collect(pending)
    pending = output
  if pending is not None:
    collect(pending)
  if not (times_seen == 1).all() or count != num_examples:
    raise RuntimeError(
      f'Evaluation saw {int(count)} examples of {num_examples}:'
      f' {(times_seen == 0).sum()} never, {(times_seen > 1).sum()} more than'
      ' once.'
    )
  return Predictions(to_scores(logits), labels, loss / num_examples)


def to_scores(logits: np.ndarray) -> np.ndarray:
  """Probabilities, in float64: in float32 sure ones would tie at 1."""
  return special.expit(logits.astype(np.float64))


def evaluate_split(
  eval_step: EvalStep,
  variables: Variables,
  split: input_pipeline.DecodedSplit,
  *,
  global_batch_size: int,
  num_threads: int | None,
  prefetch_batches: int,
) -> Predictions:
  """`evaluate` on the batches of a split; all hosts call it.

  Args:
    eval_step: of `make_eval_step`.
    variables: 'params' and 'batch_stats', placed by `parallel.replicate`.
    split: with at least one example.
    global_batch_size: posters a step over all hosts; a multiple of the devices.
    num_threads: that read and decode, per host; None: twice the CPU cores.
    prefetch_batches: batches to keep ready, per host.

  Returns:
    The predictions, in the split's order.
  """
  return evaluate(
    eval_step,
    variables,
    input_pipeline.eval_batches(
      split,
      global_batch_size=global_batch_size,
      host_index=parallel.host_index(),
      num_hosts=parallel.num_hosts(),
      num_threads=num_threads,
      prefetch_batches=prefetch_batches,
    ),
    num_examples=len(split),
    num_genres=split.num_genres,
  )


def validation_metrics(predictions: Predictions) -> dict[str, float]:
  """The loss and all metrics, without intervals: cheap enough for training."""
  values = metrics.compute(predictions.scores, predictions.labels)
  return {
    'loss': predictions.loss,
    **{name: float(value[0]) for name, value in values.items()},
  }
