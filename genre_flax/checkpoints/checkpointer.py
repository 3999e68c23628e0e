"""Saves and restores the checkpoints of a workdir.

A checkpoint named N holds N updates. It has three items: 'model' (parameters,
their moving average, BatchNorm's statistics), 'optimizer' and 'meta' (JSON: all
that is needed to use the model without its config file or data set). So
evaluation reads the model alone.
"""

from collections.abc import Iterator, Mapping
import contextlib
import math
from typing import Any

from absl import logging
from etils import epath
import jax
import numpy as np
import orbax.checkpoint as ocp

from genre_flax.checkpoints import choice
from genre_flax.runtime import errors

# 'model' and 'optimizer', each a tree of arrays.
Items = dict[str, Any]
_ITEMS = ('model', 'optimizer', 'meta')


class Checkpointer:
  """The checkpoints of a workdir; close it at the end.

  Attributes:
    workdir: of the run.
    directory: that has a folder for each checkpoint, named by its step.
  """

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
    self.workdir = epath.Path(workdir)
    self.directory = self.workdir / 'checkpoints'
    self._keep_best = keep_best
    self._read_only = read_only
    self.open()

  def open(self) -> None:
    """Looks at the workdir anew, after `close`."""
    self._manager = ocp.CheckpointManager(
      _absolute(self.directory),
      item_names=_ITEMS,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=choice.preservation_policy(self._keep_best),
        best_fn=choice.rank,
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

  def find_step(self, which: str) -> int:
    """The step that is meant by 'best', 'latest' or a number.

    Raises:
      InputError: there is no such checkpoint.
    """
    return choice.find_step(
      which,
      steps=self.steps(),
      best=self._manager.best_step(),
      workdir=self.workdir,
    )

  def save(
    self,
    step: int,
    items: Items,
    *,
    meta: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
  ) -> None:
    """Saves a run at a step; all hosts call it, the writing runs on.

    Args:
      step: updates done. A checkpoint of it that exists is left as it is.
      items: 'model' and 'optimizer'.
      meta: that JSON can hold.
      metrics: of the validation split; None where it was not evaluated.
    """
    if step in self._manager.all_steps():
      return
    # Orbax refuses arrays of one host's devices in multi-process runs.
    items = jax.device_get(items)
    with _quiet_about_metrics():
      self._manager.save(
        step,
        args=ocp.args.Composite(
          model=ocp.args.StandardSave(items['model']),
          optimizer=ocp.args.StandardSave(items['optimizer']),
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

  def restore(self, step: int, template: Items) -> Items:
    """Restores the arrays of the checkpoint at `step`, on the host.

    Args:
      step: of an existing checkpoint.
      template: items of the same shapes, on the host.

    Returns:
      'model' and 'optimizer'.

    Raises:
      ValueError: it holds arrays of other shapes.
      Exception: of any kind, where its files are damaged.
    """
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        model=ocp.args.StandardRestore(template['model']),
        optimizer=ocp.args.StandardRestore(template['optimizer']),
        meta=ocp.args.JsonRestore(),
      ),
    )
    items = {name: restored[name] for name in template}
    _check_shapes(items, template)
    return items

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
        f'Checkpoint {step} in {self.workdir} cannot be read: {e}'
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


@contextlib.contextmanager
def _quiet_about_metrics() -> Iterator[None]:
  """Orbax warns of every save between two evaluations, several times each."""

  def is_news(record):
    return 'did not provide metrics' not in record.getMessage()

  logger = logging.get_absl_logger()
  logger.addFilter(is_news)
  try:
    yield
  finally:
    logger.removeFilter(is_news)


def _check_shapes(restored: Items, template: Items) -> None:
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


def _finite_floats(metrics: Mapping[str, float]) -> dict[str, float]:
  """Plain floats, leaving out what is not finite: JSON has no NaN."""
  floats = {name: float(value) for name, value in metrics.items()}
  return {name: v for name, v in floats.items() if math.isfinite(v)}
