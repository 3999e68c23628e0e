"""Which checkpoints are kept, and which one is meant."""

from collections.abc import Mapping, Sequence
import math

from etils import epath
from orbax.checkpoint import checkpoint_managers

from genre_flax.runtime import errors

# Of the validation split; the greater the better.
BEST_METRIC = 'mean_average_precision'


def rank(metrics: Mapping[str, float]) -> float:
  """What checkpoints are compared by; a metric that is not finite is worst."""
  value = metrics.get(BEST_METRIC, -math.inf)
  return value if math.isfinite(value) else -math.inf


def preservation_policy(
  keep_best: int,
) -> checkpoint_managers.PreservationPolicy:
  """Keeps the latest checkpoint, and the best ones by `rank`.

  Args:
    keep_best: number of the best.
  """
  return checkpoint_managers.AnyPreservationPolicy(
    [
      checkpoint_managers.LatestN(1),
      checkpoint_managers.BestN(
        get_metric_fn=rank,
        n=keep_best,
        # Saved between two evaluations: kept while it is the latest.
        keep_checkpoints_without_metrics=False,
      ),
    ]
  )


def find_step(
  which: str, *, steps: Sequence[int], best: int | None, workdir: epath.Path
) -> int:
  """The step that is meant by 'best', 'latest' or a number.

  Args:
    which: as above. Without a validated checkpoint the best is the latest.
    steps: of all checkpoints, ascending.
    best: of them, by `rank`; None where none was validated.
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
    return steps[-1] if best is None else best
  if not which.isdecimal() or int(which) not in steps:
    raise errors.InputError(
      f'--step={which}: {workdir} has the checkpoints {list(steps)}; choose'
      " one of them, or 'best' or 'latest'."
    )
  return int(which)
