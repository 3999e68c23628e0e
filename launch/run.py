r"""Runs a program of this repository on an engine: a cluster, a cloud or here.

python -m launch.run --engine=slurm --name=posters --num_nodes=2 \
  --accelerators=gpu:8 -- --config=configs/tpu_pod.py --workdir=/shared/posters

Flags of the launcher precede --, those of the program follow it. The job is
checked, written as the engine's own file, and submitted; logs, status and
cancellation are the engine's. --dry_run prints the file and the command.

Exit status: 2 for invalid input, 69 if the engine's program is missing, and
otherwise that of the engine's program; with local and tpu_vm, the job's.
"""

import os
import pathlib
import shlex
import shutil
import sys
from types import ModuleType
from typing import Any

from absl import flags

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch import check
from launch import job as job_lib
from launch.engines import jobset
from launch.engines import local
from launch.engines import skypilot
from launch.engines import slurm
from launch.engines import tpu_vm

_ENGINES = {
  engine.__name__.rpartition('.')[2]: engine
  for engine in (local, slurm, skypilot, jobset, tpu_vm)
}
_ENGINE = flags.DEFINE_enum(
  'engine', None, list(_ENGINES), 'Where the job runs.', required=True
)
_NAME = flags.DEFINE_string(
  'name', None, 'Lower-case letters, digits and dashes.', required=True
)
_PROGRAM = flags.DEFINE_enum(
  'program', 'train', list(job_lib.PROGRAMS), 'The program of the job.'
)
_ACCELERATORS = flags.DEFINE_string(
  'accelerators',
  None,
  'TPU slice, such as tpu-v5litepod-16 or v5e:4x4, or GPUs of each node, such'
  ' as H100:8; default: none.',
)
_ENV = flags.DEFINE_multi_string(
  'env', [], 'Variable of the program, as NAME=VALUE; may be repeated.'
)
_OUTPUT = flags.DEFINE_string(
  'output', None, "Write the engine's file here, and submit nothing."
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, "Print the engine's file and the command that submits it."
)
# Flags of some engines: default and help. The flag of a list may be repeated.
_OPTIONS = {
  'num_processes': (1, 'Processes of the job.'),
  'num_nodes': (1, 'Machines, for jobs without TPUs.'),
  'num_slices': (1, 'Slices of TPUs (multislice).'),
  'max_restarts': (20, 'Restarts after failures.'),
  'spot': (False, 'Use cheaper machines that may be preempted.'),
  'mount': ([], 'Bucket to mount, as /PATH=gs://BUCKET.'),
  'cpus_per_task': (0, 'CPU cores per task; 0: the default of the cluster.'),
  'sbatch_arg': ([], 'Further setting, such as --time=12:00:00.'),
  'infra': (None, 'Cloud, region and zone, such as gcp/us-west4.'),
  'runtime_version': (None, 'Image of the TPU VMs.'),
  'image': (None, 'Container image, built with launch/Dockerfile.'),
  'namespace': (None, 'Kubernetes namespace.'),
  'queue': (None, 'Local queue of Kueue.'),
  'priority_class': (None, 'Priority class of pods.'),
  'service_account': (None, 'Kubernetes service account of the pods.'),
  'node_selector': ([], 'Label of nodes, as KEY=VALUE.'),
  'zone': (None, 'Zone, such as us-west4-a.'),
  'project': (None, "Google Cloud project; default: gcloud's."),
  'tpu_name': (None, 'Existing TPU VM, which is not deleted at the end.'),
  'keep': (False, 'Keep the slice when the job ends.'),
  'gcloud_arg': (
    [],
    'Further flag of `gcloud compute tpus queued-resources create`, such as'
    ' --network=NAME.',
  ),
}


def _engines_with(option: str) -> str:
  return ', '.join(n for n, e in _ENGINES.items() if option in e.OPTIONS)


def _define_options() -> None:
  for name, (default, text) in _OPTIONS.items():
    text = f'{_engines_with(name)}: {text}'
    if isinstance(default, bool):
      flags.DEFINE_bool(name, default, text)
    elif isinstance(default, int):
      bound = int(name.startswith('num_'))
      flags.DEFINE_integer(name, default, text, lower_bound=bound)
    elif isinstance(default, list):
      flags.DEFINE_multi_string(name, default, text)
    else:
      flags.DEFINE_string(name, default, text)


_define_options()


def main(argv: list[str]) -> int:
  """Checks, writes and submits the job, and returns the exit status."""
  engine = _ENGINES[_ENGINE.value]
  options = _options_of(engine)
  job = job_lib.make(
    _NAME.value,
    _PROGRAM.value,
    args=argv[1:],
    env=_ENV.value,
    mounts=options.get('mount', ()),
    accelerator=job_lib.parse_accelerators(_ACCELERATORS.value),
    num_nodes=options.get('num_processes') or options.get('num_nodes', 1),
    num_slices=options.get('num_slices', 1),
  )
  if job.slice:
    if engine in (local, slurm):
      raise errors.InputError(
        f'--accelerators={_ACCELERATORS.value}: the engine {_ENGINE.value} has'
        ' no TPU slices. Choose skypilot, jobset or tpu_vm.'
      )
    _log(f'Slice: {job.slice.type} ({job.slice.name}).')
  text = '' if engine is local else engine.make(job, options)
  for note in check.check(job, shares_files=engine.SHARES_FILES):
    _log(f'Note: {note}')
  if engine is not local:
    return _submit(job, engine, options, text)
  if not _DRY_RUN.value:
    return local.run(job, sys.stdout.buffer)
  for command in local.commands(job):
    print(shlex.join(command))
  return 0


def _log(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def _options_of(engine: ModuleType) -> dict[str, Any]:
  """The values of the engine's flags.

  Raises:
    InputError: a flag of another engine is set.
  """
  for name in _OPTIONS:
    if name not in engine.OPTIONS and flags.FLAGS[name].present:
      raise errors.InputError(
        f'--{name} is a flag of --engine={_engines_with(name)}; this is'
        f' --engine={_ENGINE.value}.'
      )
  return {name: flags.FLAGS[name].value for name in engine.OPTIONS}


def _submit(
  job: job_lib.Job, engine: ModuleType, options: dict[str, Any], text: str
) -> int:
  """Writes the file; the engine's program takes the place of this process."""
  path = _OUTPUT.value or f'{job.name}{engine.SUFFIX}'
  command = [*engine.SUBMIT, path]
  if _DRY_RUN.value:
    print(f'{text.rstrip()}\n\n$ {shlex.join(command)}')
    return 0
  if not _OUTPUT.value and shutil.which(command[0]) is None:
    raise errors.ResourceError(
      f'{command[0]} is not installed here. Write the file with --output=FILE,'
      ' and submit it where it is.'
    )
  files.write_atomic(pathlib.Path(path), text)
  print(f'Wrote {path}.')
  if _OUTPUT.value:
    print(f'To submit it: {shlex.join(command)}')
    return 0
  for purpose, words in engine.follow_up(job, options).items():
    print(f'  {purpose}: {shlex.join(words)}')
  print(f'$ {shlex.join(command)}', flush=True)
  # Signals reach the program alone, which may take minutes to stop.
  os.execvp(command[0], command)


if __name__ == '__main__':
  command_line.run(main, launches=True)
