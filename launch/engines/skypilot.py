"""SkyPilot: the YAML of a managed job, which recovers from preemptions."""

from collections.abc import Mapping, Sequence
import pathlib
import shlex
from typing import Any

from genre_flax.runtime import errors
from launch import job as job_lib

OPTIONS = ('num_nodes', 'spot', 'mount', 'infra', 'runtime_version')
SUFFIX = '.sky.yaml'
SUBMIT = ('sky', 'jobs', 'launch', '--detach-run', '--yes')
SHARES_FILES = False
_TEMPLATE = pathlib.Path(__file__).with_name('skypilot.yaml')


def make(job: job_lib.Job, options: Mapping[str, Any]) -> str:
  """The task: a slice of TPUs, or nodes with GPUs of any cloud."""
  if job.slice and not job.slice.chip.runtime_version:
    raise errors.InputError(
      f'SkyPilot has no TPU VMs of {job.slice.chip.name}; choose jobset.'
    )
  is_pod = job.slice is not None and job.num_hosts > 1
  return job_lib.render(
    _TEMPLATE,
    job,
    {
      **options,
      # The hosts of a slice are one node, with the same environment.
      'num_nodes': job.num_nodes,
      # A process has all the GPUs of its node.
      'command': shlex.join(job.command(detect=is_pod)),
      'requirements': f'requirements{"_gpu" if job.gpus else ""}.txt',
      'temporary_statuses': list(errors.TEMPORARY_STATUSES),
      'busy_status': errors.BusyError.exit_status,
    },
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
