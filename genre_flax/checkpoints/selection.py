"""The order of checkpoints, and the policy for those to keep."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import NamedTuple

from orbax.checkpoint import checkpoint_managers

# Validation metrics by step; None for a checkpoint without validation.
Metrics = Mapping[int, Mapping[str, float] | None]


class BestMetric(NamedTuple):
  """The metric of the validation split that ranks checkpoints."""

  name: str = 'mean_average_precision'
  higher_is_better: bool = True

  def rank(self, metrics: Mapping[str, float]) -> float:
    """Higher is better; -inf if the metric is missing or not finite."""
    value = metrics.get(self.name, math.nan)
    if not math.isfinite(value):
      return -math.inf
    return value if self.higher_is_better else -value


def from_worst_to_best(metrics: Metrics, best_metric: BestMetric) -> list[int]:
  """Sorts the steps with validation by a metric, then by step."""
  validated = {s: found for s, found in metrics.items() if found is not None}
  return sorted(validated, key=lambda s: (best_metric.rank(validated[s]), s))


@dataclasses.dataclass(frozen=True, eq=False)
class KeepLatestAndBest(checkpoint_managers.PreservationPolicy):
  """Keeps the latest checkpoint, the best ones and damaged ones.

  Orbax's own policies delete checkpoints without metrics, and the latest in
  favor of better ones.

  Attributes:
    metrics: Metrics of the undamaged checkpoints, which the caller updates.
    best_metric: The metric that ranks them.
    keep_best: Number of best checkpoints to keep.
  """

  metrics: Metrics
  best_metric: BestMetric
  keep_best: int

  def should_preserve(
    self,
    checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
    *,
    context: checkpoint_managers.PreservationContext,
  ) -> Sequence[bool]:
    """Whether to keep each of the checkpoints, in ascending order."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    known = {s: self.metrics[s] for s in steps if s in self.metrics}
    ranked = from_worst_to_best(known, self.best_metric)
    kept = {*steps[-1:], *ranked[-self.keep_best :]}
    return [step in kept or step not in known for step in steps]
