"""The starts of a run: time, command, devices and versions, for the report."""

import datetime
import json
import shlex
import sys
from typing import Any

from etils import epath

from genre_flax.runtime import files
from genre_flax.runtime import machine
from genre_flax.runtime import parallel

FILE_NAME = 'starts.json'
_PACKAGES = ('genre_flax', 'jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def record(workdir: epath.Path, *, step: int, num_train_steps: int) -> None:
  """Appends this start, after `step` updates, to the history of a workdir.

  Raises:
    StorageError: the file cannot be written.
  """
  start = {
    'step': step,
    'num_train_steps': num_train_steps,
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': shlex.join(['python', *sys.orig_argv[1:]]),
    'devices': parallel.describe_devices(),
    'processor': machine.processor(),
    'num_cores': machine.num_cores(),
    'versions': machine.versions(_PACKAGES),
  }
  starts = [*read(workdir), start]
  files.write_atomic(workdir / FILE_NAME, f'{json.dumps(starts, indent=2)}\n')


def read(workdir: epath.Path) -> list[dict[str, Any]]:
  """The starts of a workdir, oldest first, without damaged entries."""
  try:
    stored = json.loads((workdir / FILE_NAME).read_bytes())
  except (OSError, ValueError):
    return []
  starts = stored if isinstance(stored, list) else []
  return [start for start in starts if isinstance(start, dict)]
