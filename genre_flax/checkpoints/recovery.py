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

  Damaged ones after it are reported and moved to the workdir's folder
  'corrupt', unless the checkpointer is read-only. If none can be restored, none
  is moved. `check_meta` raises InputError for the meta of another run.

  Returns:
    The items on the host and the meta; None if there is no checkpoint.

  Raises:
    InputError: All checkpoints are damaged, or have another network.
  """
  steps = checkpointer.steps()
  metas = {step: _try(checkpointer.read_meta, step) for step in steps}
  readable = [meta for meta in metas.values() if meta is not None]
  if readable:
    check_meta(readable[-1])
  damaged = []
  for step in reversed(steps):
    items = None
    if metas[step] is not None:
      items = _try(checkpointer.restore, step, template)
    if parallel.all_hosts_agree(items is not None):
      for each in () if checkpointer.read_only else damaged:
        _move_to_corrupt(checkpointer, each)
      return items, metas[step]
    damaged.append(step)
  if steps:
    raise errors.InputError(
      f'The checkpoints {steps} in {checkpointer.workdir} are all damaged. To'
      ' start a new run, choose another --workdir or delete'
      f' {checkpointer.directory}.'
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
      'Moved checkpoint %d to %s; resuming from an earlier one.', step, target
    )
  parallel.barrier(f'moved checkpoint {step}')
  checkpointer.open()
