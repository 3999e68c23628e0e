"""Going on from the newest checkpoint that is whole."""

from absl import logging

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.runtime import errors
from genre_flax.runtime import parallel


def restore_latest(
  checkpointer: checkpointer_lib.Checkpointer,
  template: checkpointer_lib.Items,
) -> checkpointer_lib.Items | None:
  """Restores the newest checkpoint that can be read; all hosts call it.

  One that cannot is reported and moved out of the way, into the workdir's
  folder 'corrupt', and the one before is tried.

  Args:
    checkpointer: of the workdir.
    template: items of the same shapes, on the host.

  Returns:
    The items on the host, or None where the workdir has no checkpoint.

  Raises:
    InputError: there are checkpoints and none can be read.
  """
  steps = checkpointer.steps()
  for step in reversed(steps):
    items = _try_restore(checkpointer, step, template)
    if parallel.all_hosts_agree(items is not None):
      return items
    _move_away(checkpointer, step)
  if steps:
    workdir = checkpointer.workdir
    raise errors.InputError(
      f'None of the checkpoints {steps} in {workdir} can be read. They are in'
      f' {workdir / "corrupt"} now; the same command starts the run anew.'
    )
  return None


def _try_restore(checkpointer, step, template):
  try:
    return checkpointer.restore(step, template)
  except Exception as e:  # Damaged files raise whatever their reader does.
    logging.error('Checkpoint %d cannot be read: %s', step, e)
    return None


def _move_away(checkpointer, step):
  checkpointer.close()
  if parallel.is_main_host():
    target = checkpointer.workdir / 'corrupt'
    target.mkdir(parents=True, exist_ok=True)
    (checkpointer.directory / str(step)).rename(target / str(step))
    logging.error(
      'Moved checkpoint %d to %s; going back to the one before.', step, target
    )
  parallel.barrier(f'moved checkpoint {step}')
  checkpointer.open()
