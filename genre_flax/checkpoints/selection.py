"""The order of checkpoints, and the policy for those to keep."""

from collections.abc import Mapping, Sequence
import dataclasses
import math

from orbax.checkpoint import checkpoint_managers

# Metric of the validation split; higher is better.
BEST_METRIC = 'mean_average_precision'

# Validation metrics by step; None for a checkpoint without validation.
Metrics = Mapping[int, Mapping[str, float] | None]


def from_worst_to_best(metrics: Metrics) -> list[int]:
  """Sorts the steps with validation by BEST_METRIC, then by step.

  A missing metric, such as one that was not finite, ranks lowest.
  """
  validated = {s: found for s, found in metrics.items() if found is not None}
  return sorted(
    validated, key=lambda s: (validated[s].get(BEST_METRIC, -math.inf), s)
  )


@dataclasses.dataclass(frozen=True, eq=False)
class KeepLatestAndBest(checkpoint_managers.PreservationPolicy):
  """Keeps the latest checkpoint, the best ones and damaged ones.

  Orbax's own policies delete checkpoints without metrics, and the latest in
  favor of better ones.

  Attributes:
    metrics: Metrics of the undamaged checkpoints, which the caller updates.
    keep_best: Number of best checkpoints to keep.
  """

  metrics: Metrics
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
    kept = {*steps[-1:], *from_worst_to_best(known)[-self.keep_best :]}
    return [step in kept or step not in known for step in steps]
