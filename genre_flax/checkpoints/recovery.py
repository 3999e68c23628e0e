"""Restoring the newest undamaged checkpoint."""

from collections.abc import Callable
import itertools
from typing import Any

from absl import logging

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import parallel


def restore_latest(
  checkpointer: checkpointer_lib.Checkpointer,
  template: checkpointer_lib.Items,
  *,
  check_meta: Callable[[dict[str, Any]], None] = lambda meta: None,
) -> tuple[checkpointer_lib.Items, dict[str, Any]] | None:
  """Restores the newest undamaged checkpoint; to be called on all hosts.

  Damaged checkpoints are reported and moved to the workdir's folder 'corrupt'.

  Args:
    checkpointer: Checkpoints of the workdir.
    template: Items of the expected shapes, on the host.
    check_meta: Function of the newest readable meta that raises InputError for
      a checkpoint of another run. It is called before any checkpoint is moved.

  Returns:
    The items on the host and the meta; None if there is no checkpoint.

  Raises:
    InputError: All checkpoints are damaged.
  """
  steps = checkpointer.steps()
  metas = {step: _try(checkpointer.read_meta, step) for step in steps}
  readable = [meta for meta in metas.values() if meta is not None]
  if readable:
    check_meta(readable[-1])
  for step in reversed(steps):
    items = None
    if metas[step] is not None:
      items = _try(checkpointer.restore, step, template)
    if parallel.all_hosts_agree(items is not None):
      return items, metas[step]
    _move_to_corrupt(checkpointer, step)
  if steps:
    workdir = checkpointer.workdir
    raise errors.InputError(
      f'None of the checkpoints {steps} in {workdir} can be read. They were'
      f' moved to {workdir / "corrupt"}; the same command starts a new run.'
    )
  return None


def _try(read, step, *args):
  """Calls `read`; None if the checkpoint is damaged."""
  try:
    return read(step, *args)
  except errors.DamageError as e:
    logging.error('%s', e)
    return None


def _move_to_corrupt(checkpointer, step):
  checkpointer.close()
  if parallel.is_main_host():
    folder = checkpointer.workdir / 'corrupt'
    names = itertools.chain(
      [str(step)], (f'{step}.{n}' for n in itertools.count(2))
    )
    target = next(folder / n for n in names if not (folder / n).exists())
    with files.storage_errors(target):
      folder.mkdir(parents=True, exist_ok=True)
      if files.is_remote(folder):  # A bucket has no empty folders.
        (folder / 'README').write_text('Checkpoints that cannot be read.\n')
      (checkpointer.directory / str(step)).rename(target)
    logging.error(
      'Moved checkpoint %d to %s; restoring the previous one.', step, target
    )
  parallel.barrier(f'moved checkpoint {step}')
  checkpointer.open()
