"""A job: one program of this repository with its flags and its machines."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
import re
import subprocess
import sys
from typing import Any, NamedTuple

import jinja2

from genre_flax.runtime import accelerators
from genre_flax.runtime import errors

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = {
  'train': 'genre_flax.main',
  'top3': 'genre_flax.top3',
  'prepare': 'genre_flax.prepare',
  'sweep': 'launch.sweep',
}
_NAME = re.compile(r'[a-z]([a-z0-9-]{0,38}[a-z0-9])?')


class Gpus(NamedTuple):
  """GPUs of each node: a type such as 'H100', or 'gpu' for any, and a count."""

  type: str
  count: int


@dataclasses.dataclass(frozen=True)
class Job:
  """A program, its flags and its machines.

  Attributes:
    name: of the job, and of the machines that are created for it.
    program: a key of PROGRAMS.
    args: flags of the program.
    accelerator: a slice of TPUs, or the GPUs of each node, or None for CPUs.
    num_nodes: machines without TPUs; a slice has its own hosts.
    num_slices: slices of TPUs.
    env: variables of the program's environment.
    mounts: buckets by the folders where they are mounted.
  """

  name: str
  program: str
  args: tuple[str, ...]
  accelerator: accelerators.Slice | Gpus | None = None
  num_nodes: int = 1
  num_slices: int = 1
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)
  mounts: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def slice(self) -> accelerators.Slice | None:
    """The slice of TPUs; None without one."""
    is_slice = isinstance(self.accelerator, accelerators.Slice)
    return self.accelerator if is_slice else None

  @property
  def gpus(self) -> Gpus | None:
    """The GPUs of each node; None without any."""
    return self.accelerator if isinstance(self.accelerator, Gpus) else None

  @property
  def is_distributed(self) -> bool:
    """Whether several processes can run the program together."""
    return self.program in ('train', 'top3')

  @property
  def num_hosts(self) -> int:
    """Machines of the job."""
    hosts = self.slice.num_hosts if self.slice else self.num_nodes
    return hosts * self.num_slices

  @property
  def num_devices(self) -> int:
    """Devices of JAX on all machines; one on each machine of CPUs."""
    if self.slice:
      return self.slice.num_devices * self.num_slices
    return self.num_nodes * (self.gpus.count if self.gpus else 1)

  def command(self, python: str = 'python', *, detect: bool) -> list[str]:
    """The command line; `detect` is whether processes find and join others."""
    distributed = ['--distributed'] * (
      detect and '--distributed' not in self.args
    )
    return [python, '-m', PROGRAMS[self.program], *distributed, *self.args]


def parse_accelerators(text: str | None) -> accelerators.Slice | Gpus | None:
  """Parses --accelerators.

  Args:
    text: a slice of TPUs by either name, such as 'v5litepod-16' or 'v5e:4x4',
      or GPUs of each node, such as 'H100:8'.

  Raises:
    InputError: it is neither.
  """
  if not text:
    return None
  name = text.removeprefix('tpu-').replace(':', '-').partition('-')[0]
  known = {*accelerators.TPUS, *(c.prefix for c in accelerators.TPUS.values())}
  if name in known or text.startswith('tpu'):
    return accelerators.parse_slice(text)
  found = re.fullmatch(r'([A-Za-z][\w.-]*)(?::([1-9]\d*))?', text)
  if not found:
    raise errors.InputError(
      f'--accelerators={text!r} is neither a TPU slice, such as'
      ' tpu-v5litepod-16 or v5e:4x4, nor GPUs of each node, such as H100:8.'
    )
  return Gpus(found[1], int(found[2] or 1))


def make(
  name: str,
  program: str,
  *,
  args: Sequence[str],
  env: Sequence[str] = (),
  mounts: Sequence[str] = (),
  **machines,
) -> Job:
  """Makes a job of the values of flags.

  Raises:
    InputError: a value is invalid, or values do not go together.
  """
  if not _NAME.fullmatch(name):
    raise errors.InputError(
      f'--name={name!r} cannot name a job; expected at most 40 lower-case'
      ' letters, digits and dashes, from a letter to a letter or digit, as'
      ' Kubernetes and the Cloud TPU API require.'
    )
  if not args:
    raise errors.InputError(
      f'The flags of the program {program!r} are missing; add them after --, as'
      ' in `-- --config=configs/tpu_pod.py --workdir=gs://BUCKET/RUN`.'
    )
  job = Job(
    name,
    program,
    tuple(args),
    env=pairs('env', env, r'[A-Za-z_]\w*=.*', 'NAME=VALUE'),
    mounts=pairs('mount', mounts, r'/.+=\w+://.+', '/PATH=gs://BUCKET'),
    **machines,
  )
  if job.slice and job.num_nodes > 1:
    raise errors.InputError(
      '--num_nodes is for jobs without TPUs; a slice has its own hosts.'
    )
  if job.num_slices > 1 and not job.slice:
    raise errors.InputError('--num_slices needs --accelerators of TPUs.')
  if job.num_hosts > 1 and not job.is_distributed:
    raise errors.InputError(
      f'--program={program} runs on one machine, and this job has'
      f' {job.num_hosts}. Choose --num_nodes=1 or a slice of one host.'
    )
  return job


def run_module(module: str, *args: str, text: str = '') -> str:
  """The output of a module in a process of its own, with `text` as its input.

  Raises:
    InputError: with the message of the module's.
    RuntimeError: it failed otherwise.
  """
  command = [sys.executable, '-m', module, *args]
  done = subprocess.run(
    command, input=text, capture_output=True, text=True, check=False
  )
  _, marker, message = done.stderr.rpartition('error: ')
  if done.returncode == errors.InputError.exit_status and marker:
    raise errors.InputError(message.strip())
  if done.returncode:
    raise RuntimeError(
      f'{module} ended with status {done.returncode}:\n{done.stderr}'
    )
  return done.stdout


def render(template: pathlib.Path, job: Job, values: Mapping[str, Any]) -> str:
  """Fills in the template of an engine, with the job and further values."""
  text = template.read_text(encoding='utf-8')
  return jinja2.Template(
    text, trim_blocks=True, undefined=jinja2.StrictUndefined
  ).render(
    name=job.name,
    root=str(ROOT),
    slice=job.slice,
    gpus=job.gpus,
    env={'PYTHONUNBUFFERED': '1', **job.env},
    **{'mounts': job.mounts, **values},
  )


def pairs(
  flag: str, values: Sequence[str], pattern: str, form: str
) -> dict[str, str]:
  """Parses the values NAME=VALUE of a flag that may be repeated.

  Raises:
    InputError: a value does not match `pattern`, which `form` describes.
  """
  for value in values:
    if not re.fullmatch(pattern, value, re.DOTALL):
      raise errors.InputError(f'--{flag}={value!r} is not of the form {form}.')
  return dict(value.split('=', 1) for value in values)
