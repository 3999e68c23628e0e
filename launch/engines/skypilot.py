"""SkyPilot: the YAML of a managed job, which recovers from preemptions."""

from collections.abc import Mapping, Sequence
import shlex
from typing import Any

import yaml

from genre_flax.runtime import errors
from launch import job as job_lib

OPTIONS = ('num_nodes', 'spot', 'mount', 'infra', 'runtime_version')
SUFFIX = '.sky.yaml'
SUBMIT = ('sky', 'jobs', 'launch', '--detach-run', '--yes')
SHARES_FILES = False

_SETUP = """\
set -e
command -v uv || curl -LsSf https://astral.sh/uv/install.sh | sh
export PATH="$HOME/.local/bin:$PATH"
uv venv --quiet --clear --python 3.12 ~/genre_flax_venv
source ~/genre_flax_venv/bin/activate
uv pip install --quiet --require-hashes -r launch/{requirements}
"""
_JOIN = """\
export JAX_COORDINATOR_ADDRESS="$(head -n 1 <<<"$SKYPILOT_NODE_IPS"):{port}"
export JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES"
export JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"
"""
# SkyPilot restarts a job if any of its machines reports a temporary status,
# without a limit. The end by a signal is reported as one, and a folder that is
# used, as by a preempted machine whose lease has not expired. This waits, since
# a peer may have ended with a permanent status; SkyPilot then stops this script.
_RUN = """\
source ~/genre_flax_venv/bin/activate
{join}status=0
{command} || status=$?
echo "{name} ended with status $status."
if ((status > 128 || status == {busy})); then
  sleep "${{PEER_SECONDS:-60}}"
  status={temporary}
fi
exit "$status"
"""


def make(job: job_lib.Job, options: Mapping[str, Any]) -> str:
  """The task: a slice of TPUs, or nodes with GPUs of any cloud."""
  resources: dict[str, Any] = {}
  if options['infra']:
    resources['infra'] = options['infra']
  if job.slice:
    if not job.slice.chip.runtime_version:
      raise errors.InputError(
        f'SkyPilot has no TPU VMs of {job.slice.chip.name}; choose jobset.'
      )
    resources['accelerators'] = f'tpu-{job.slice.type}'
    version = options['runtime_version'] or job.slice.chip.runtime_version
    resources['accelerator_args'] = {'tpu_vm': True, 'runtime_version': version}
  elif job.gpus:
    resources['accelerators'] = f'{job.gpus.type}:{job.gpus.count}'
  resources['use_spot'] = options['spot']
  resources['job_recovery'] = {
    'strategy': 'EAGER_NEXT_REGION',
    'max_restarts_on_errors': 0,
    'recover_on_exit_codes': list(errors.TEMPORARY_STATUSES),
  }
  is_pod = job.slice is not None and job.num_hosts > 1
  join = ''
  if job.num_nodes > 1 and not job.slice:
    join = _JOIN.format(port=job_lib.COORDINATOR_PORT)
  # A process has all the GPUs of its node.
  command = shlex.join(job.command(detect=is_pod))
  requirements = 'requirements_gpu.txt' if job.gpus else 'requirements.txt'
  task = {
    'name': job.name,
    'workdir': str(job_lib.ROOT),
    # The hosts of a slice are one node.
    'num_nodes': 1 if job.slice else job.num_nodes,
    'resources': resources,
    'envs': {'PYTHONUNBUFFERED': '1', **job.env},
    'file_mounts': {
      path: {'source': bucket, 'mode': 'MOUNT'}
      for path, bucket in job.mounts.items()
    },
    'setup': _SETUP.format(requirements=requirements),
    'run': _RUN.format(
      join=join,
      command=command,
      name=job.name,
      busy=errors.BusyError.exit_status,
      temporary=errors.TEMPORARY_STATUSES[-1],
    ),
  }
  task = {key: value for key, value in task.items() if value != {}}
  return yaml.dump(task, Dumper=_Dumper, sort_keys=False, width=10_000)


class _Dumper(yaml.SafeDumper):
  """Writes texts of several lines as blocks."""


_Dumper.add_representer(
  str,
  lambda dumper, text: dumper.represent_scalar(
    'tag:yaml.org,2002:str', text, style='|' if '\n' in text else None
  ),
)


def follow_up(
  job: job_lib.Job, options: Mapping[str, Any]
) -> Mapping[str, Sequence[str]]:
  """Commands for the submitted job."""
  del options
  return {
    'logs': ['sky', 'jobs', 'logs', '--name', job.name],
    'status': ['sky', 'jobs', 'queue'],
    'cancel': ['sky', 'jobs', 'cancel', '--name', job.name],
  }
