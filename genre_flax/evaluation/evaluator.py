"""Exact evaluation: applies a network to each example of a split once."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

from etils import epy
import flax.linen as nn
import jax
import numpy as np

from genre_flax import config as config_lib
from genre_flax.models import forward
from genre_flax.models import side_inputs
from genre_flax.models import text_branch
from genre_flax.runtime import parallel
from genre_flax.runtime import watchdog

with epy.lazy_imports():
  from scipy import special

  from genre_flax.data import input_pipeline

Variables = dict[str, Any]
EvalStep = Callable[[Variables, parallel.Batch], dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Predictions:
  """The output of a network for all examples of a split, in its order.

  Attributes:
    logits: float32 [N, num_genres].
    labels: float32 [N, num_genres] of 0 and 1.
    network_logits: before `logits_fn` of `make_eval_step`.
    branches: float32 [N, 2, num_genres], those of the image and of the text, of
      a network with both; before `logits_fn`.
  """

  logits: np.ndarray
  labels: np.ndarray
  network_logits: np.ndarray | None = None
  branches: np.ndarray | None = None

  @property
  def scores(self) -> np.ndarray:
    """float64 [N, num_genres], probabilities before calibration."""
    # In float32 high ones would tie at 1.
    return special.expit(self.logits.astype(np.float64))


def make_eval_step(
  model: nn.Module,
  preprocessing: config_lib.Preprocessing,
  *,
  logits_fn: Callable[[jax.Array], jax.Array] | None = None,
) -> EvalStep:
  """Creates the evaluation step for all devices.

  Args:
    model: a network of `registry.create_model`.
    preprocessing: with the crops of test-time augmentation.
    logits_fn: maps the network's logits to those whose sigmoids are the scores,
      of `objectives.logits_fn`; None if they are equal.

  Returns:
    A step for `run_over_split` with the outputs 'logits' and 'labels'; with
    `logits_fn`, also 'network_logits'; with a text branch, also 'branches'.
  """
  has_branches = isinstance(model, text_branch.ImageAndText)
  if has_branches:
    model = model.clone(return_branches=True)

  def eval_step(variables, batch):
    if 'features' in batch:
      logits = forward.forward_inputs(
        model, variables, batch, preprocessing, train=False
      )
    else:
      logits = forward.predict_logits(
        model,
        variables,
        batch['image'],
        preprocessing,
        **side_inputs.extra_inputs(model, batch),
      )
    outputs = {'labels': batch['labels']}
    if has_branches:
      outputs['branches'] = logits
      logits = text_branch.fuse(
        logits,
        variables['batch_stats'],
        has_text=text_branch.has_text(batch['text_weights']),
      )
    outputs['logits'] = logits
    if logits_fn is not None:
      outputs |= {'logits': logits_fn(logits), 'network_logits': logits}
    return outputs

  return gather_outputs(eval_step)


def gather_outputs(step: EvalStep) -> EvalStep:
  """Runs a step on all devices and gathers its outputs on all of them.

  Args:
    step: takes variables and the slice of a batch of one device; returns arrays
      of [per_device_batch_size, ...].

  Returns:
    Takes the variables and a sharded batch; returns arrays of
    [global_batch_size, ...], with 'mask' and 'index' of the batch.
  """

  def gathering_step(variables, batch):
    outputs = step(variables, batch)
    outputs = {**outputs, 'mask': batch['mask'], 'index': batch['index']}
    return jax.lax.all_gather(outputs, parallel.AXIS_NAME, tiled=True)

  return parallel.parallelize(gathering_step)


def run_over_split(
  step: EvalStep,
  variables: Variables,
  batches: input_pipeline.Batches,
  *,
  num_examples: int,
) -> dict[str, np.ndarray]:
  """Runs a step over a whole split; all hosts call it.

  Args:
    step: of `gather_outputs`.
    variables: of the network, replicated by `parallel.replicate`.
    batches: of `input_pipeline.eval_batches`.
    num_examples: of the split over all hosts; at least 1.

  Returns:
    The outputs of the step, [num_examples, ...] in the order of the split.

  Raises:
    RuntimeError: an example is missing or repeated.
  """
  collected: dict[str, np.ndarray] = {}
  counts = np.zeros(num_examples, int)

  def collect(outputs):
    outputs = jax.device_get(outputs)
    is_real = outputs.pop('mask') > 0
    index = outputs.pop('index')[is_real]
    np.add.at(counts, index, 1)
    for name, values in outputs.items():
      if name not in collected:
        shape = (num_examples, *values.shape[1:])
        collected[name] = np.zeros(shape, values.dtype)
      collected[name][index] = values[is_real]

  pending = None
  for batch in parallel.shard_ahead(batches):
    outputs = step(variables, batch)
    # The previous batch is fetched while this one is computed.
    if pending is not None:
      collect(pending)
      watchdog.report_progress()
    pending = outputs
  if pending is not None:
    collect(pending)
  if not (counts == 1).all():
    raise RuntimeError(
      f'Of {num_examples} examples, {(counts == 0).sum()} are missing and'
      f' {(counts > 1).sum()} repeated.'
    )
  return collected


def evaluate_split(
  eval_step: EvalStep,
  variables: Variables,
  split: input_pipeline.Examples,
  options: input_pipeline.LoaderOptions,
) -> Predictions:
  """Scores a whole split; all hosts call it and get the predictions.

  Raises:
    RuntimeError: an example is missing or repeated.
  """
  outputs = run_over_split(
    eval_step,
    variables,
    input_pipeline.eval_batches(split, options),
    num_examples=len(split),
  )
  return Predictions(
    outputs['logits'],
    outputs['labels'],
    outputs.get('network_logits'),
    outputs.get('branches'),
  )
