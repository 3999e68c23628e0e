"""Checkpoints, the only user of Orbax.

A checkpoint named N holds N updates. It has three items: 'model' (parameters,
their moving average, BatchNorm's statistics), 'optimizer' and 'meta' (JSON: all
that is needed to use the model without its config file or data set). So
evaluation reads the model alone. The latest checkpoint and the best ones by
`BEST_METRIC` on the validation split are kept.
"""

from collections.abc import Mapping
import math
from typing import Any

from absl import logging
from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.training import train_state as train_state_lib

BEST_METRIC = 'mean_average_precision'
_ITEMS = ('model', 'optimizer', 'meta')


class Checkpointer:
  """Saves and restores the checkpoints of a workdir; close it at the end."""

  def __init__(
    self,
    workdir: epath.PathLike,
    *,
    keep_best: int = 1,
    read_only: bool = False,
  ):
    """Opens a workdir.

    Args:
      workdir: of the run.
      keep_best: best checkpoints to keep, beside the latest.
      read_only: never save or delete; the run may be going on.
    """
    self._workdir = epath.Path(workdir)
    self._directory = self._workdir / 'checkpoints'
    self._keep_best = keep_best
    self._read_only = read_only
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    keep = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(1),
        checkpoint_managers.BestN(
          get_metric_fn=_rank,
          n=self._keep_best,
          # Saved between two evaluations: kept while it is the latest.
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    return ocp.CheckpointManager(
      _absolute(self._directory),
      item_names=_ITEMS,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=keep,
        best_fn=_rank,
        best_mode='max',
        # Orbax's own read_only does no more, and warns of itself.
        create=not self._read_only,
        cleanup_tmp_directories=not self._read_only,
      ),
    )

  def close(self) -> None:
    """Waits for the last save."""
    self._manager.close()

  def __enter__(self) -> 'Checkpointer':
    return self

  def __exit__(self, *exc_info) -> None:
    self.close()

  def steps(self) -> list[int]:
    """The steps of all checkpoints, ascending."""
    return sorted(self._manager.all_steps())

  def save(
    self,
    state: train_state_lib.TrainState,
    *,
    meta: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Saves a state under its step; all hosts call it, the writing runs on.

    Args:
      state: to save. A checkpoint of its step that exists is left as it is.
      meta: that JSON can hold.
      metrics: of the validation split; None where it was not evaluated.
    """
    # Orbax refuses arrays of one host's devices in multi-process runs.
    state = jax.device_get(state)
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    model, optimizer = _split(state)
    self._manager.save(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardSave(model),
        optimizer=ocp.args.StandardSave(optimizer),
        meta=ocp.args.JsonSave(dict(meta)),
      ),
      metrics=None if metrics is None else _finite_floats(metrics),
    )

  def wait(self) -> None:
    """Waits until what was saved is on disk."""
    self._manager.wait_until_finished()

  def read_meta(self, step: int) -> dict[str, Any]:
    """The meta of the checkpoint at `step`."""
    restored = self._manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )
    return restored['meta']

  def restore_latest(
    self, template: train_state_lib.TrainState
  ) -> train_state_lib.TrainState | None:
    """Restores the newest checkpoint that can be read.

    One that cannot is reported and moved out of the way, into the workdir's
    folder 'corrupt', and the one before is tried.

    Args:
      template: a state of the same shapes, on the host.

    Returns:
      The state on the host, or None where the workdir has no checkpoint.

    Raises:
      InputError: there are checkpoints and none can be read.
    """
    steps = self.steps()
    for step in reversed(steps):
      state = self._try_restore(step, template)
      if parallel.all_hosts_agree(state is not None):
        return state
      self._move_away(step)
    if steps:
      raise errors.InputError(
        f'None of the checkpoints {steps} in {self._workdir} can be read. They'
        f' are in {self._workdir / "corrupt"} now; the same command starts the'
        ' run anew.'
      )
    return None

  def _try_restore(self, step, template):
    model, optimizer = _split(template)
    try:
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          model=ocp.args.StandardRestore(model),
          optimizer=ocp.args.StandardRestore(optimizer),
          meta=ocp.args.JsonRestore(),
        ),
      )
      state = _join(restored['model'], restored['optimizer'])
      _check_shapes(state, template)
    except Exception as e:  # Damaged files raise whatever their reader does.
      logging.error('Checkpoint %d cannot be read: %s', step, e)
      return None
    return state

  def _move_away(self, step):
    self._manager.close()
    if parallel.is_main_host():
      target = self._workdir / 'corrupt'
      target.mkdir(parents=True, exist_ok=True)
      (self._directory / str(step)).rename(target / str(step))
      logging.error(
        'Moved checkpoint %d to %s; going back to the one before.', step, target
      )
    parallel.barrier(f'moved checkpoint {step}')
    self._manager = self._open()

  def find_step(self, which: str) -> int:
    """The step that is meant by 'best', 'latest' or a number.

    Args:
      which: as above. Without a validated checkpoint the best is the latest.

    Returns:
      The step of an existing checkpoint.

    Raises:
      InputError: there is no such checkpoint.
    """
    steps = self.steps()
    if not steps:
      raise errors.InputError(
        f'{self._workdir} has no checkpoint: there is nothing in'
        f' {self._directory}. Train one with `python -m genre_flax.main'
        f' --config=CONFIG --workdir={self._workdir}`.'
      )
    if which == 'latest':
      return steps[-1]
    if which == 'best':
      best = self._manager.best_step()
      return steps[-1] if best is None else best
    if not which.isdecimal() or int(which) not in steps:
      raise errors.InputError(
        f'--step={which}: {self._workdir} has the checkpoints {steps}; choose'
        " one of them, or 'best' or 'latest'."
      )
    return int(which)

  def restore_model(self, step: int) -> dict[str, Any]:
    """Restores the 'model' item alone, as it was saved.

    Args:
      step: of an existing checkpoint.

    Returns:
      'params', 'batch_stats' and, where the run kept an average, 'ema_params',
      as NumPy arrays.

    Raises:
      InputError: the checkpoint is damaged.
    """
    try:
      restored = self._manager.restore(
        step, args=ocp.args.Composite(model=ocp.args.StandardRestore())
      )
    except Exception as e:  # Damaged files raise whatever their reader does.
      raise errors.InputError(
        f'Checkpoint {step} in {self._workdir} cannot be read: {e}'
      ) from e
    return restored['model']


def read_model(
  workdir: epath.PathLike, *, step: str
) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Reads what is needed to use the network of a workdir.

  Args:
    workdir: of the run.
    step: of the checkpoint, as in `Checkpointer.find_step`.

  Returns:
    The step, the meta, and the variables {'params', 'batch_stats'}: the moving
    average of the parameters where the run kept one.

  Raises:
    InputError: there is no such checkpoint, or it is damaged.
  """
  with Checkpointer(workdir, read_only=True) as checkpointer:
    found = checkpointer.find_step(step)
    meta = checkpointer.read_meta(found)
    model = checkpointer.restore_model(found)
  return (
    found,
    meta,
    {
      'params': model.get('ema_params', model['params']),
      'batch_stats': model['batch_stats'],
    },
  )


def _split(state: train_state_lib.TrainState) -> tuple[Any, Any]:
  """A state as the items 'model' and 'optimizer'."""
  model = {'params': state.params, 'batch_stats': state.batch_stats}
  if state.ema_params is not None:
    model['ema_params'] = state.ema_params
  return model, {'step': state.step, 'opt_state': state.opt_state}


def _join(model: Any, optimizer: Any) -> train_state_lib.TrainState:
  return train_state_lib.TrainState(
    step=optimizer['step'],
    params=model['params'],
    batch_stats=model['batch_stats'],
    ema_params=model.get('ema_params'),
    opt_state=optimizer['opt_state'],
  )


def _check_shapes(restored: Any, template: Any) -> None:
  """Raises ValueError where an array has another shape than was asked for."""
  wrong = [
    f'{jax.tree_util.keystr(path)} is {np.shape(got)}, expected'
    f' {np.shape(expected)}'
    for (path, got), expected in zip(
      jax.tree_util.tree_leaves_with_path(restored),
      jax.tree.leaves(template),
      strict=True,
    )
    if np.shape(got) != np.shape(expected)
  ]
  if wrong:
    raise ValueError(f'it holds another network: {"; ".join(wrong)}')


def _absolute(path: epath.Path) -> epath.Path:
  """Orbax takes absolute paths alone; etils makes gs:// one of this machine."""
  return path if '://' in str(path) else path.resolve()


def _rank(metrics: Mapping[str, float]) -> float:
  """What checkpoints are compared by; a metric that is not finite is worst."""
  value = metrics.get(BEST_METRIC, -math.inf)
  return value if math.isfinite(value) else -math.inf


def _finite_floats(metrics: Mapping[str, float]) -> dict[str, float]:
  """Plain floats, leaving out what is not finite: JSON has no NaN."""
  floats = {name: float(value) for name, value in metrics.items()}
  return {name: v for name, v in floats.items() if math.isfinite(v)}
