"""The starts of a run: time, command, code, devices and versions."""

from collections.abc import Mapping
import datetime
import json
import os
import pathlib
import shlex
import sys
from typing import Any

from absl import logging
from etils import epath

from genre_flax import config as config_lib
from genre_flax.runtime import files
from genre_flax.runtime import machine
from genre_flax.runtime import parallel

FILE_NAME = 'starts.json'
_PACKAGE_DIR = pathlib.Path(__file__).parent.parent
_PACKAGES = ('genre_flax', 'jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy')


def record(
  workdir: epath.Path,
  *,
  step: int,
  sizes: config_lib.Sizes,
  changed_keys: Mapping[str, tuple[Any, Any]],
) -> None:
  """Appends this start, after `step` updates, to the history of a workdir.

  `changed_keys` are (before, now) of config keys that changed on resume.

  Raises:
    StorageError: the file cannot be written.
  """
  start = {
    'step': step,
    'num_train_steps': sizes.num_train_steps,
    'batch_size': sizes.global_batch_size,
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': shlex.join(['python', *sys.orig_argv[1:]]),
    'changed_keys': dict(changed_keys),
    'commit': machine.commit(_PACKAGE_DIR),
    'working_folder': os.getcwd(),
    'working_folder_commit': machine.commit(pathlib.Path.cwd()),
    'devices': parallel.describe_devices(),
    'processor': machine.processor(),
    'num_cores': machine.num_cores(),
    'versions': machine.versions(_PACKAGES),
  }
  for key, (before, now) in changed_keys.items():
    logging.warning('config.%s was %r and is now %r.', key, before, now)
  starts = read(workdir)
  now = sizes.num_train_steps
  before = starts[-1].get('num_train_steps') if starts else now
  if before != now:
    logging.warning('The run had %s steps and has %d now.', before, now)
  content = json.dumps([*starts, start], indent=2)
  files.write_atomic(workdir / FILE_NAME, f'{content}\n')


def read(workdir: epath.Path) -> list[dict[str, Any]]:
  """The starts of a workdir, oldest first, without damaged entries."""
  try:
    stored = json.loads((workdir / FILE_NAME).read_bytes())
  except (OSError, ValueError):
    return []
  starts = stored if isinstance(stored, list) else []
  return [start for start in starts if isinstance(start, dict)]
