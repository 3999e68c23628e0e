r"""Runs a program of this repository on an engine: a cluster, a cloud or here.

python -m launch.run --engine=slurm --name=posters --num_nodes=2 \
  --accelerators=gpu:8 -- --config=configs/tpu_pod.py --workdir=/shared/posters

Flags of the launcher precede --, those of the program follow it. The job is
checked, written as the engine's own file, and submitted; logs, status and
cancellation are the engine's. --dry_run prints the file and the command.

Exit status: 0 if the job was submitted, 2 for invalid input, 69 if the engine's
program is missing or failed; with --engine=local and tpu_vm, the program's.
"""

from collections.abc import Mapping
import pathlib
import shlex
import shutil
import subprocess
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
  'local': local,
  'slurm': slurm,
  'skypilot': skypilot,
  'jobset': jobset,
  'tpu_vm': tpu_vm,
}
_ENGINE = flags.DEFINE_enum(
  'engine', None, list(_ENGINES), 'Where the job runs.', required=True
)
_NAME = flags.DEFINE_string(
  'name',
  None,
  'Name of the job: lower-case letters, digits and dashes.',
  required=True,
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
_NUM_NODES = flags.DEFINE_integer(
  'num_nodes', 1, 'Machines, for jobs without TPUs.', lower_bound=1
)
_SPOT = flags.DEFINE_bool(
  'spot', False, 'Use cheaper machines that may be preempted.'
)
_MAX_RESTARTS = flags.DEFINE_integer(
  'max_restarts',
  20,
  'slurm, jobset: restarts after failures.',
  lower_bound=0,
)
_ENV = flags.DEFINE_multi_string(
  'env', [], 'Variable of the program, as NAME=VALUE; may be repeated.'
)
_MOUNT = flags.DEFINE_multi_string(
  'mount',
  [],
  'skypilot, jobset: bucket to mount, as /PATH=gs://BUCKET; may be repeated.',
)
_OUTPUT = flags.DEFINE_string(
  'output', None, "Write the engine's file here, and submit nothing."
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, "Print the engine's file and the command that submits it."
)
flags.DEFINE_integer(
  'num_processes', 1, 'local: processes of the job.', lower_bound=1
)
flags.DEFINE_integer(
  'cpus_per_task',
  None,
  'slurm: CPU cores of each task, which often is one by default.',
  lower_bound=1,
)
flags.DEFINE_multi_string(
  'sbatch_arg',
  [],
  'slurm: further setting, such as --time=12:00:00; may be repeated.',
)
flags.DEFINE_string(
  'infra', None, 'skypilot: cloud, region and zone, such as gcp/us-west4.'
)
flags.DEFINE_string(
  'runtime_version', None, 'skypilot, tpu_vm: image of the TPU VMs.'
)
flags.DEFINE_string(
  'image', None, 'jobset: container image, built with launch/Dockerfile.'
)
flags.DEFINE_string('namespace', None, 'jobset: Kubernetes namespace.')
flags.DEFINE_string('queue', None, 'jobset: local queue of Kueue.')
flags.DEFINE_string('priority_class', None, 'jobset: priority class of pods.')
flags.DEFINE_string(
  'service_account', None, 'jobset: Kubernetes service account of the pods.'
)
flags.DEFINE_integer(
  'num_slices', 1, 'jobset: slices of TPUs (multislice).', lower_bound=1
)
flags.DEFINE_multi_string(
  'node_selector', [], 'jobset: label of nodes, as KEY=VALUE; may be repeated.'
)
flags.DEFINE_string('zone', None, 'tpu_vm: zone, such as us-west4-a.')
flags.DEFINE_string(
  'project', None, "tpu_vm: Google Cloud project; default: gcloud's."
)
flags.DEFINE_string(
  'tpu_name', None, 'tpu_vm: existing TPU VM, which is not deleted at the end.'
)
flags.DEFINE_bool('keep', False, 'tpu_vm: keep the slice when the job ends.')
flags.DEFINE_multi_string(
  'gcloud_arg',
  [],
  'tpu_vm: further flag of `gcloud compute tpus queued-resources create`, such'
  ' as --network=NAME; may be repeated.',
)


def main(argv: list[str]) -> int:
  """Checks, writes and submits the job, and returns the exit status."""
  engine = _ENGINES[_ENGINE.value]
  options = _options_of(engine)
  job = job_lib.make(
    _NAME.value,
    _PROGRAM.value,
    args=argv[1:],
    env=_ENV.value,
    mounts=_MOUNT.value,
    accelerator=job_lib.parse_accelerators(_ACCELERATORS.value),
    num_nodes=options.get('num_processes', _NUM_NODES.value),
    num_slices=options.get('num_slices', 1),
    spot=_SPOT.value,
    max_restarts=_MAX_RESTARTS.value,
  )
  _refuse_combinations(job, engine)
  if job.slice:
    _log(f'Slice: {job.slice.type} ({job.slice.name}).')
  text = None if engine is local else engine.make(job, options)
  for note in check.check(job, shares_files=engine.SHARES_FILES):
    _log(f'Note: {note}')
  if engine is local:
    return _run_here(job)
  return _submit(job, engine, options, text)


def _log(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


def _run_here(job: job_lib.Job) -> int:
  if _DRY_RUN.value:
    for command in local.commands(job):
      print(shlex.join(command))
    return 0
  return local.run(job, sys.stdout.buffer)


def _submit(
  job: job_lib.Job, engine: ModuleType, options: Mapping[str, Any], text: str
) -> int:
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
  status = subprocess.run(command, check=False).returncode
  if engine is tpu_vm:
    return status
  if status:
    raise errors.ResourceError(f'{command[0]} ended with status {status}.')
  return 0


def _options_of(engine: ModuleType) -> dict[str, Any]:
  """The values of the engine's flags.

  Raises:
    InputError: a flag of another engine is set.
  """
  for name, other in _ENGINES.items():
    for option in other.OPTIONS:
      if option not in engine.OPTIONS and flags.FLAGS[option].present:
        raise errors.InputError(
          f'--{option} is a flag of --engine={name}; this is'
          f' --engine={_ENGINE.value}.'
        )
  return {option: flags.FLAGS[option].value for option in engine.OPTIONS}


def _refuse_combinations(job: job_lib.Job, engine: ModuleType) -> None:
  """Raises InputError for machines that the engine does not have."""
  if job.slice and job.num_nodes > 1:
    raise errors.InputError(
      '--num_nodes is for jobs without TPUs; a slice has its own hosts.'
    )
  if engine is local and _NUM_NODES.value > 1:
    raise errors.InputError('--engine=local has --num_processes, no nodes.')
  if job.slice and engine in (local, slurm):
    raise errors.InputError(
      f'--accelerators={_ACCELERATORS.value}: the engine {_ENGINE.value} has no'
      ' TPU slices. Choose skypilot, jobset or tpu_vm.'
    )
  if job.num_slices > 1 and not job.slice:
    raise errors.InputError('--num_slices needs --accelerators of TPUs.')
  if job.spot and engine in (local, slurm):
    raise errors.InputError(f'--engine={_ENGINE.value} has no --spot.')
  if job.mounts and engine not in (skypilot, jobset):
    raise errors.InputError(f'--engine={_ENGINE.value} has no --mount.')


if __name__ == '__main__':
  command_line.run(main, launches=True)
