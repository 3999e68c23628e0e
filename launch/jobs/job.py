"""A job: one binary with its arguments, under a name."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
import os
import re

from genre_flax.runtime import errors

MODULES = {
  'train': 'genre_flax.main',
  'top3': 'genre_flax.top3',
  'prepare': 'genre_flax.prepare',
}
# The flag of the folder without which a binary does nothing.
_FOLDER_FLAGS = {'train': 'workdir', 'top3': 'workdir', 'prepare': 'data_dir'}
_EXAMPLE = '--config=configs/tpu_pod.py --workdir=gs://BUCKET/RUN'
_NAME = re.compile(r'[a-z]([a-z0-9-]{0,38}[a-z0-9])?')


@dataclasses.dataclass(frozen=True)
class Job:
  """What is to run, wherever it runs.

  Attributes:
    name: of the job, and of what is created for it.
    binary: train, top3 or prepare.
    args: of the binary: config, overrides, workdir.
    env: variables that the binary's processes get besides their own.
  """

  name: str
  binary: str
  args: tuple[str, ...]
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def folder(self) -> str:
    """The workdir, or the data set's folder of prepare."""
    return get_flag(self.args, _FOLDER_FLAGS[self.binary])

  @property
  def is_writer(self) -> bool:
    """Whether two of it in one folder would damage each other."""
    return self.binary != 'top3'

  @property
  def digest(self) -> str:
    """Tells this job from another under the same name."""
    return _digest(json.dumps([self.binary, self.args, dict(self.env)]))

  @property
  def folder_digest(self) -> str:
    """Tells the folder that it writes; usable as a label."""
    folder = self.folder
    if '://' not in folder:
      folder = os.path.realpath(os.path.expanduser(folder))
    return _digest(folder.rstrip('/'))

  def max_processes(self, num_hosts: int) -> int:
    """How many of `num_hosts` processes the binary can make use of."""
    return 1 if self.binary == 'prepare' else num_hosts

  def command(self, python: str, *, distributed: bool) -> list[str]:
    """The binary's command line.

    Args:
      python: the interpreter that runs it.
      distributed: whether it joins the other processes of a cluster.

    Returns:
      The program and its arguments.
    """
    command = [python, '-m', MODULES[self.binary]]
    if distributed and '--distributed' not in self.args:
      command.append('--distributed')
    command.extend(self.args)
    if self.env:
      pairs = [f'{name}={value}' for name, value in self.env.items()]
      command = ['env', *pairs, *command]
    return command


def make(
  name: str, binary: str, *, args: Sequence[str], env: Sequence[str] = ()
) -> Job:
  """Checks what the user asked for.

  Args:
    name: of the job.
    binary: a key of MODULES.
    args: of the binary.
    env: variables, as NAME=VALUE.

  Returns:
    The job.

  Raises:
    InputError: something is missing or cannot be.
  """
  if not _NAME.fullmatch(name):
    raise errors.InputError(
      f'--name={name!r} cannot name a job; expected at most 40 lower-case'
      ' letters, digits and dashes, with a letter first and no dash last,'
      ' because TPU and Kubernetes ask for it.'
    )
  if not args:
    raise errors.InputError(
      f'There is nothing to run: put the flags of {binary} after a lone --,'
      f' as in `-- {_EXAMPLE}`.'
    )
  pairs = dict(pair.partition('=')[::2] for pair in env)
  for pair in env:
    if not re.fullmatch(r'[A-Za-z_]\w*=.*', pair, re.DOTALL):
      raise errors.InputError(f'--env={pair!r} is not of the form NAME=VALUE.')
  folder_flag = _FOLDER_FLAGS[binary]
  if not get_flag(args, folder_flag):
    raise errors.InputError(
      f'--{folder_flag} is missing among the flags of {binary}; give it after'
      f' the lone --, as in `-- {_EXAMPLE}`.'
    )
  if binary == 'train' and not get_flag(args, 'config'):
    raise errors.InputError(
      '--config is missing among the flags of train; give it after the lone'
      f' --, as in `-- {_EXAMPLE}`.'
    )
  return Job(name, binary, tuple(args), pairs)


def get_flag(args: Sequence[str], name: str) -> str | None:
  """The value of the last --name=value or --name value; None without one."""
  value = None
  for index, arg in enumerate(args):
    flag, equals, rest = arg.partition('=')
    if flag not in (f'--{name}', f'-{name}'):
      continue
    if equals:
      value = rest
    elif index + 1 < len(args):
      value = args[index + 1]
  return value


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:16]
