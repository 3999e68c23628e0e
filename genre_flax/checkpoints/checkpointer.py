"""Saves and restores the checkpoints of a workdir.

A checkpoint named N holds N updates. It has four items: 'model' (parameters,
their moving average, BatchNorm's statistics), 'optimizer', 'meta' (JSON: all
that is needed to use the model without its config file or data set) and
'record' (see there). So evaluation reads the model alone.

Whatever is read is compared with its digest: it is what was saved, or an error.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import errno
from typing import Any

from absl import logging
from etils import epath
import jax
import orbax.checkpoint as ocp

from genre_flax.checkpoints import choice
from genre_flax.checkpoints import record as record_lib
from genre_flax.checkpoints import shapes
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import parallel

# 'model' and 'optimizer', each a tree of arrays.
Items = dict[str, Any]
_ITEMS = ('model', 'optimizer', 'meta', record_lib.ITEM)
# Errors of a machine that say nothing of the files it reads.
_PASSING = (
  errno.EACCES,
  errno.EMFILE,
  errno.ENFILE,
  errno.ENOMEM,
  errno.ESTALE,
  errno.ETIMEDOUT,
)


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
    # By step, of those that are not damaged.
    self._metrics: dict[int, dict[str, float] | None] = {}
    with files.storage_errors(self.directory):
      self._manager = ocp.CheckpointManager(
        _absolute(self.directory),
        item_names=_ITEMS,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=choice.KeepLatestAndBest(
            self._metrics, keep_best=self._keep_best
          ),
          # Orbax would read files that may be damaged, before it is asked.
          lightweight_initialize=True,
          # Orbax's own read_only does no more, and warns of itself.
          create=not self._read_only,
          cleanup_tmp_directories=not self._read_only,
        ),
      )
    for step in self.steps():
      try:
        self._metrics[step] = record_lib.read_metrics(self._folder(step))
      except errors.DamageError as e:
        logging.error('Checkpoint %d is damaged: %s.', step, e)

  def close(self) -> None:
    """Waits for the last save.

    Raises:
      StorageError: it could not be written.
    """
    with files.storage_errors(self.directory):
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
      DamageError: the best is asked for, and what tells it is damaged.
    """
    steps = self.steps()
    unknown = [step for step in steps if step not in self._metrics]
    if which == 'best' and unknown:
      with self._reading(unknown[0]):
        record_lib.read_metrics(self._folder(unknown[0]))
    return choice.find_step(
      which, steps=steps, metrics=self._metrics, workdir=self.workdir
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

    Raises:
      StorageError: this or the last one could not be written.
    """
    if step in self._manager.all_steps():
      return
    # Orbax refuses arrays of one host's devices in multi-process runs.
    items = jax.device_get(items)
    record = {}
    if parallel.is_main_host():  # It alone writes JSON.
      record = record_lib.make(step, items=items, meta=meta, metrics=metrics)
    self._metrics[step] = None if metrics is None else dict(metrics)
    with files.storage_errors(self.directory):
      self._manager.save(
        step,
        args=ocp.args.Composite(
          model=ocp.args.StandardSave(items['model']),
          optimizer=ocp.args.StandardSave(items['optimizer']),
          meta=ocp.args.JsonSave(dict(meta)),
          record=ocp.args.JsonSave(record),
        ),
      )

  def wait(self) -> None:
    """Waits until what was saved is on disk.

    Raises:
      StorageError: it could not be written.
    """
    with files.storage_errors(self.directory):
      self._manager.wait_until_finished()

  def read_meta(self, step: int) -> dict[str, Any]:
    """The meta of the checkpoint at `step`.

    Raises:
      DamageError: it is not what was saved.
    """
    with self._reading(step) as record:
      meta = self._restore(step, meta=ocp.args.JsonRestore())['meta']
      if not isinstance(meta, dict):
        raise errors.DamageError(f'the meta is {type(meta).__name__}')
      if record is not None:
        record_lib.check_meta(record, meta)
    return meta

  def restore(self, step: int, template: Items) -> Items:
    """Restores the arrays of the checkpoint at `step`, on the host.

    Args:
      step: of an existing checkpoint.
      template: items of the same shapes, on the host.

    Returns:
      'model' and 'optimizer'.

    Raises:
      DamageError: it is not what was saved, or of another network.
    """
    with self._reading(step) as record:
      shapes.check(self._item(step, 'model'), template['model'])
      shapes.check(self._item(step, 'optimizer'))
      restored = self._restore(
        step,
        **{
          name: ocp.args.StandardRestore(tree)
          for name, tree in template.items()
        },
      )
      items = {name: restored[name] for name in template}
      for name, tree in items.items():
        if record is not None:
          record_lib.check_arrays(record, name, tree)
        shapes.require(shapes.of(tree), shapes.of(template[name]))
    return items

  def restore_model(
    self, step: int, template: Any | None = None
  ) -> dict[str, Any]:
    """Restores the 'model' item alone, as it was saved.

    Args:
      step: of an existing checkpoint.
      template: {'params', 'batch_stats'} of the shapes to expect; None for any.

    Returns:
      'params', 'batch_stats' and, where the run kept an average, 'ema_params',
      as NumPy arrays.

    Raises:
      DamageError: it is not what was saved, or of another network.
    """
    with self._reading(step) as record:
      shapes.check(self._item(step, 'model'), template)
      model = self._restore(step, model=ocp.args.StandardRestore())['model']
      if record is not None:
        record_lib.check_arrays(record, 'model', model)
      model.setdefault('batch_stats', {})
    return model

  def whole_steps(self) -> list[int]:
    """The steps of the checkpoints that can be read, ascending."""

    def is_whole(step):
      try:
        self.read_meta(step)
        self.restore_model(step)
      except errors.DamageError:
        return False
      return True

    return [step for step in self.steps() if is_whole(step)]

  def _folder(self, step: int) -> epath.Path:
    return self.directory / str(step)

  def _item(self, step: int, name: str) -> epath.Path:
    return _absolute(self._folder(step) / name)

  def _restore(self, step: int, **args: Any) -> Any:
    return self._manager.restore(step, args=ocp.args.Composite(**args))

  @contextlib.contextmanager
  def _reading(self, step: int) -> Iterator[record_lib.Record | None]:
    """Gives the record, and names the checkpoint in what goes wrong."""
    try:
      record = record_lib.read(self._folder(step))
      if record is None:
        logging.log_first_n(
          logging.WARNING,
          'Checkpoint %d in %s is of an earlier version, without digests: it is'
          ' read unverified.',
          1,
          step,
          self.workdir,
        )
      yield record
    except Exception as e:  # Damaged files raise whatever their reader does.
      words = str(e).partition('\n')[0] or type(e).__name__
      if _is_of_the_machine(e):
        raise errors.ResourceError(
          f'Checkpoint {step} cannot be read now, in {self._folder(step)}:'
          f' {words}. It may be whole: give the same command again.'
        ) from e
      raise errors.DamageError(
        f'Checkpoint {step} cannot be read, in {self._folder(step)}: {words}.'
      ) from e


def _is_of_the_machine(error: Exception) -> bool:
  """Whether it tells of the moment, and nothing of the files."""
  return isinstance(error, MemoryError | errors.ResourceError) or (
    isinstance(error, OSError) and error.errno in _PASSING
  )


def read_model(
  workdir: epath.PathLike,
  *,
  step: str,
  make_template: Callable[[dict[str, Any]], Any] | None = None,
) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Reads what is needed to use the network of a workdir.

  Args:
    workdir: of the run.
    step: of the checkpoint, as in `Checkpointer.find_step`.
    make_template: takes the meta, and gives the variables' shapes to expect.

  Returns:
    The step, the meta, and the variables {'params', 'batch_stats'}: the moving
    average of the parameters where the run kept one.

  Raises:
    InputError: there is no such checkpoint.
    DamageError: it is not what was saved; the message names those that are.
  """
  with Checkpointer(workdir, read_only=True) as checkpointer:
    try:
      found = checkpointer.find_step(step)
      meta = checkpointer.read_meta(found)
      model = checkpointer.restore_model(
        found, make_template(meta) if make_template else None
      )
    except errors.DamageError as e:
      whole = checkpointer.whole_steps()
      raise errors.DamageError(
        f'{e} Checkpoints that are whole: {whole or "none"}.'
        + (f' Choose one of them, as --step={whole[-1]}.' if whole else '')
      ) from e
  return (
    found,
    meta,
    {
      'params': model.get('ema_params', model['params']),
      'batch_stats': model['batch_stats'],
    },
  )


def _absolute(path: epath.Path) -> epath.Path:
  """Orbax takes absolute paths alone; etils makes gs:// one of this machine."""
  return path if files.is_remote(path) else path.resolve()
