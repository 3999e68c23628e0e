"""TPU VMs: a shell script of gcloud commands, to read, edit and run again."""

from collections.abc import Mapping, Sequence
import pathlib
import shlex
from typing import Any

from genre_flax.runtime import errors
from launch import job as job_lib

OPTIONS = (
  *('spot', 'runtime_version', 'zone', 'project', 'tpu_name', 'keep'),
  'gcloud_arg',
)
SUFFIX = '.tpu_vm.sh'
SUBMIT = ('bash',)
SHARES_FILES = False

_BODY = pathlib.Path(__file__).with_name('tpu_vm.sh')
_REFUSED = 'is not part of the Cloud TPU API. Choose the engine jobset.'


def make(job: job_lib.Job, options: Mapping[str, Any]) -> str:
  """The script: the settings of the job, and tpu_vm.sh."""
  if not options['zone']:
    raise errors.InputError('--zone is missing, such as --zone=us-west4-a.')
  if not job.slice:
    raise errors.InputError(
      '--accelerators is missing: a TPU slice, such as tpu-v5litepod-16.'
    )
  if not job.slice.chip.runtime_version:
    raise errors.InputError(f'{job.slice.chip.name} {_REFUSED}')
  version = options['runtime_version'] or job.slice.chip.runtime_version
  create = [
    f'--accelerator-type={job.slice.type}',
    f'--runtime-version={version}',
    *(['--spot'] if options['spot'] else []),
    *options['gcloud_arg'],
  ]
  variables = {'PYTHONUNBUFFERED': '1', **job.env}
  program = [
    'env',
    *(f'{name}={text}' for name, text in variables.items()),
    *job.command(detect=job.num_hosts > 1),
  ]
  settings = {
    'name': shlex.quote(options['tpu_name'] or job.name),
    # A TPU VM that exists is neither created nor deleted.
    'exists': int(bool(options['tpu_name'])),
    'keep': int(options['keep'] or bool(options['tpu_name'])),
    'location': f'({shlex.join(_location(options))})',
    'create': f'({shlex.join(create)})',
    # Folder of the job in the home directory of each worker.
    'job': f'job-{job.name}',
    'root': shlex.quote(str(job_lib.ROOT)),
    'program': shlex.quote(shlex.join(program)),
  }
  return '\n'.join(
    [
      '#!/usr/bin/env bash',
      f'# Runs the job {job.name} on a TPU VM, {job.slice.type}'
      f' ({job.slice.name}, {job.num_hosts} host(s)).',
      *(f'{name}={text}' for name, text in settings.items()),
      '',
      _BODY.read_text(encoding='utf-8'),
    ]
  )


def _location(options: Mapping[str, Any]) -> list[str]:
  flags = [f'--zone={options["zone"]}']
  if options['project']:
    flags.append(f'--project={options["project"]}')
  return flags


def follow_up(
  job: job_lib.Job, options: Mapping[str, Any]
) -> Mapping[str, Sequence[str]]:
  """Commands for the submitted job."""
  name = options['tpu_name'] or job.name
  place = _location(options)
  tpus = ['gcloud', 'compute', 'tpus']
  logs = ['--worker=0', f'--command=tail -n +1 -F job-{job.name}/log']
  commands = {
    'logs': [*tpus, 'tpu-vm', 'ssh', name, *place, *logs],
    'status': [*tpus, 'tpu-vm', 'describe', name, *place],
  }
  if not options['tpu_name']:
    queue = [*tpus, 'queued-resources']
    commands['status'] = [*queue, 'describe', name, *place]
    commands['delete'] = [*queue, 'delete', name, *place, '--force']
  return commands
