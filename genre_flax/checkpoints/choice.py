"""Which checkpoints are kept, and which one is meant."""

from collections.abc import Mapping, Sequence
import math

from etils import epath
from orbax.checkpoint import checkpoint_managers

from genre_flax.runtime import errors

# Of the validation split; the greater the better.
BEST_METRIC = 'mean_average_precision'

# By step; None of a checkpoint that was not validated.
Metrics = Mapping[int, Mapping[str, float] | None]


def from_worst_to_best(metrics: Metrics) -> list[int]:
  """The steps that were validated; of equal ones the later is better.

  A metric that is missing or not finite is worst.
  """

  def rank(step):
    value = metrics[step].get(BEST_METRIC, -math.inf)
    return value if math.isfinite(value) else -math.inf, step

  return sorted(
    (s for s, found in metrics.items() if found is not None), key=rank
  )


class KeepLatestAndBest(checkpoint_managers.PreservationPolicy):
  """Keeps the latest checkpoint, the best ones, and those of unknown worth.

  Orbax's own policies would delete what has no metrics, and delete the latest
  in favour of better ones.
  """

  def __init__(self, metrics: Metrics, *, keep_best: int):
    """Makes the policy.

    Args:
      metrics: of the checkpoints; those that it lacks are damaged. It may
        change as checkpoints are saved.
      keep_best: number of the best.
    """
    self._metrics = metrics
    self._keep_best = keep_best

  def should_preserve(
    self,
    checkpoints: Sequence[checkpoint_managers.PolicyCheckpointInfo],
    *,
    context: checkpoint_managers.PreservationContext,
  ) -> Sequence[bool]:
    """Whether to keep each of the checkpoints, which ascend."""
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    known = {s: self._metrics[s] for s in steps if s in self._metrics}
    kept = {*steps[-1:], *from_worst_to_best(known)[-self._keep_best :]}
    return [step in kept or step not in known for step in steps]


def find_step(
  which: str, *, steps: Sequence[int], metrics: Metrics, workdir: epath.Path
) -> int:
  """The step that is meant by 'best', 'latest' or a number.

  Args:
    which: as above. Without a validated checkpoint the best is the latest.
    steps: of all checkpoints, ascending.
    metrics: of those that are not damaged.
    workdir: of the run, for messages.

  Returns:
    The step of an existing checkpoint.

  Raises:
    InputError: there is no such checkpoint.
  """
  if not steps:
    raise errors.InputError(
      f'{workdir} has no checkpoint: there is nothing in'
      f' {workdir / "checkpoints"}. Train one with `python -m genre_flax.main'
      f' --config=CONFIG --workdir={workdir}`.'
    )
  if which == 'latest':
    return steps[-1]
  if which == 'best':
    return (from_worst_to_best(metrics) or steps)[-1]
  if not which.isdecimal() or int(which) not in steps:
    raise errors.InputError(
      f'--step={which}: {workdir} has the checkpoints {list(steps)}; choose'
      " one of them, or 'best' or 'latest'."
    )
  return int(which)
