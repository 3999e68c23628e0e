"""Slurm: a batch script for sbatch."""

from collections.abc import Mapping, Sequence
import pathlib
import shlex
import sys
from typing import Any

from genre_flax.runtime import errors
from launch import job as job_lib

OPTIONS = ('num_nodes', 'max_restarts', 'cpus_per_task', 'sbatch_arg')
SUFFIX = '.sbatch'
SUBMIT = ('sbatch',)
SHARES_FILES = True
_BODY = pathlib.Path(__file__).with_name('slurm.sh')


def make(job: job_lib.Job, options: Mapping[str, Any]) -> str:
  """The batch script: one task for each GPU, or for each node without GPUs."""
  tasks_per_node = job.gpus.count if job.gpus and job.is_distributed else 1
  settings = [
    f'--job-name={job.name}',
    f'--nodes={job.num_nodes}',
    f'--ntasks-per-node={tasks_per_node}',
    f'--output={job.name}-%j.log',
    '--open-mode=append',
    '--requeue',
    # Time to save before the limit of time.
    '--signal=TERM@120',
  ]
  if job.gpus:
    kind = '' if job.gpus.type == 'gpu' else f'{job.gpus.type}:'
    settings.append(f'--gpus-per-node={kind}{job.gpus.count}')
  if options['cpus_per_task']:
    settings.append(f'--cpus-per-task={options["cpus_per_task"]}')
  is_distributed = job.num_nodes * tasks_per_node > 1
  command = job.command(sys.executable, detect=is_distributed)
  env = {'PYTHONUNBUFFERED': '1', **job.env}
  lines = [
    '#!/bin/bash',
    *(f'#SBATCH {setting}' for setting in settings + options['sbatch_arg']),
    *(f'export {name}={shlex.quote(text)}' for name, text in env.items()),
    f'program=({shlex.join(command)})',
    f'permanent={shlex.quote("|".join(map(str, errors.PERMANENT_STATUSES)))}',
    f'max_restarts={options["max_restarts"]}',
    _BODY.read_text(encoding='utf-8'),
  ]
  return '\n'.join(lines)


def follow_up(
  job: job_lib.Job, options: Mapping[str, Any]
) -> Mapping[str, Sequence[str]]:
  """Commands for the submitted job."""
  del options
  name = f'--name={job.name}'
  return {
    'logs': ['tail', '-F', f'{job.name}-JOBID.log'],
    'status': ['squeue', '--me', name],
    'exit status': ['scontrol', 'show', 'job', 'JOBID'],
    'save and stop': ['scancel', '--me', name],
  }
