"""Selection of checkpoints: the best, the latest, and those to keep."""

from collections.abc import Mapping, Sequence
import math

from etils import epath
from orbax.checkpoint import checkpoint_managers

from genre_flax.runtime import errors

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


class KeepLatestAndBest(checkpoint_managers.PreservationPolicy):
  """Keeps the latest checkpoint, the best ones and damaged ones.

  Orbax's own policies delete checkpoints without metrics, and the latest in
  favor of better ones.
  """

  def __init__(self, metrics: Metrics, *, keep_best: int):
    """Creates the policy.

    Args:
      metrics: Metrics of the undamaged checkpoints. The caller may add others
        later.
      keep_best: Number of best checkpoints to keep.
    """
    self._metrics = metrics
    self._keep_best = keep_best

  def should_preserve(
    self,
    checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
    *,
    context: checkpoint_managers.PreservationContext,
  ) -> Sequence[bool]:
    """Whether to keep each of the checkpoints, in ascending order."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    known = {s: self._metrics[s] for s in steps if s in self._metrics}
    kept = {*steps[-1:], *from_worst_to_best(known)[-self._keep_best :]}
    return [step in kept or step not in known for step in steps]


def find_step(
  which: str, *, steps: Sequence[int], metrics: Metrics, workdir: epath.Path
) -> int:
  """Returns the step of 'best', 'latest' or a number.

  Args:
    which: As above. Without validation the best checkpoint is the latest.
    steps: Steps of all checkpoints, ascending.
    metrics: Metrics of the undamaged checkpoints.
    workdir: Folder of the run, for error messages.

  Returns:
    The step of an existing checkpoint.

  Raises:
    InputError: There is no such checkpoint.
  """
  if not steps:
    raise errors.InputError(
      f'{workdir} has no checkpoint: {workdir / "checkpoints"} is empty or'
      ' missing. Train with `python -m genre_flax.main --config=CONFIG'
      f' --workdir={workdir}`.'
    )
  if which == 'latest':
    return steps[-1]
  if which == 'best':
    return (from_worst_to_best(metrics) or steps)[-1]
  if not which.isdecimal() or int(which) not in steps:
    raise errors.InputError(
      f'--step={which}: {workdir} has the checkpoints {list(steps)}; choose'
      " one of them, 'best' or 'latest'."
    )
  return int(which)
