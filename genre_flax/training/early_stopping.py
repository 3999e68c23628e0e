"""Early stopping: the end of a training whose best metric does not improve."""

from collections.abc import Mapping
import math

from absl import logging
import ml_collections

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import selection
from genre_flax.evaluation import metrics
from genre_flax.runtime import errors


def best_metric(config: ml_collections.ConfigDict) -> selection.BestMetric:
  """`config.best_metric` with its direction."""
  name = config.best_metric
  # 'loss' is that of the config, which the evaluation does not define.
  return selection.BestMetric(
    name, name != 'loss' and metrics.METRICS[name].higher_is_better
  )


class EarlyStopping:
  """Counts the steps since the last improvement of `config.best_metric`.

  The step of the improvement is stored in the metrics of each checkpoint, of
  which the best is always kept, so that a resumed run ends at the same step.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    sizes: config_lib.Sizes,
    checkpointer: checkpointer_lib.Checkpointer,
  ):
    """Restores the count from the best checkpoint of a resumed run."""
    epochs = config.early_stopping_epochs
    self._patience = math.inf if epochs is None else epochs
    self._sizes = sizes
    self._metric = best_metric(config)
    self._key = f'best_{self._metric.name}_step'
    step, best = (checkpointer.ranked() or [(None, {})])[-1]
    self._best_rank = self._metric.rank(best)
    self._best_step = best.get(self._key, step)

  def add(self, step: int, results: Mapping[str, float]) -> dict[str, float]:
    """Records a validation.

    Returns:
      The metrics for the checkpoint, with the step of the last improvement.

    Raises:
      InputError: `config.best_metric` is missing from the results.
    """
    if self._metric.name not in results:
      raise errors.InputError(
        f'config.best_metric={self._metric.name!r} is not a metric of the'
        f' validation split with this objective; choose from {list(results)}.'
      )
    rank = self._metric.rank(results)
    if self._best_step is None or rank > self._best_rank:
      self._best_rank, self._best_step = rank, step
    if self.is_due(step):
      logging.info(
        'Stopping early: %s has not improved since step %d.',
        self._metric.name,
        self._best_step,
      )
    return {**results, self._key: self._best_step}

  def is_due(self, step: int) -> bool:
    """Whether the training ends after `step`; False between validations."""
    if self._best_step is None or not self._sizes.is_eval_step(step):
      return False
    num_epochs = (step - self._best_step) / self._sizes.steps_per_epoch
    return num_epochs >= self._patience
