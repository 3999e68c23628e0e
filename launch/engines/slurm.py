"""Slurm: a batch script for sbatch."""

from collections.abc import Mapping, Sequence
import shlex
import sys
from typing import Any

from genre_flax.runtime import errors
from launch import job as job_lib

OPTIONS = ('num_nodes', 'max_restarts', 'cpus_per_task', 'sbatch_arg')
SUFFIX = '.sbatch'
SUBMIT = ('sbatch',)
SHARES_FILES = True

# The script of each task. srun ends the peers of a task that failed, and has
# the highest status, so a permanent one is recorded for the batch script. The
# trap keeps the shell until the program has saved.
_TASK = """\
trap : TERM
"$@"
status=$?
case $status in {permanent}) echo "$status" >"$PERMANENT_STATUS" ;; esac
exit "$status"
"""
# Other failures are tried again: the limit of time, preemption, a lost process,
# or storage that is unavailable. Slurm itself requeues the job when a node
# fails. scancel ends this script, so nothing is requeued then.
_END = """\
export PERMANENT_STATUS=$PWD/$SLURM_JOB_NAME-$SLURM_JOB_ID.status
status=0
srun --kill-on-bad-exit=1 bash -c {task} task \\
  {command} || status=$?
if [[ -s $PERMANENT_STATUS ]]; then
  status=$(head -n 1 "$PERMANENT_STATUS")
  max_restarts=0
  rm "$PERMANENT_STATUS"
fi
echo "$SLURM_JOB_NAME $SLURM_JOB_ID ended with status $status."
if ((status == 0 || ${{SLURM_RESTART_COUNT:-0}} >= max_restarts)); then
  exit "$status"
fi
echo "Requeued; this was restart ${{SLURM_RESTART_COUNT:-0}} of $max_restarts."
scontrol requeue "$SLURM_JOB_ID"
# The requeue ends this script; its own end must not come first.
sleep 60
exit "$status"
"""


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
  settings += options['sbatch_arg']
  is_distributed = job.num_nodes * tasks_per_node > 1
  permanent = '|'.join(map(str, errors.PERMANENT_STATUSES))
  env = {'PYTHONUNBUFFERED': '1', **job.env}
  lines = [
    '#!/bin/bash',
    *(f'#SBATCH {setting}' for setting in settings),
    *(f'export {name}={shlex.quote(text)}' for name, text in env.items()),
    '# Since Slurm 22.05 srun does not inherit --cpus-per-task.',
    'if [[ ${SLURM_CPUS_PER_TASK:-} ]]; then',
    '  export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK',
    'fi',
    f'max_restarts={options["max_restarts"]}',
    _END.format(
      task=shlex.quote(_TASK.format(permanent=permanent).strip()),
      command=shlex.join(job.command(sys.executable, detect=is_distributed)),
    ),
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
