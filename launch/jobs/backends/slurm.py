"""Slurm, for GPUs: sbatch, srun, squeue, sacct, scancel."""

from collections.abc import Mapping, Sequence
import pathlib
import sys
import tempfile
from typing import Any, ClassVar

from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch.jobs import job as job_lib
from launch.jobs import travel
from launch.jobs import wheel as wheel_lib
from launch.jobs.backends import base
from launch.runtime import command

_MARK = 'genre-flax'
_QUEUED = ('PENDING', 'CONFIGURING', 'REQUEUED', 'SUSPENDED', 'STAGE_OUT')
# Ends that are no fault of the job: it goes on from the last checkpoint.
_TAKEN = ('PREEMPTED', 'NODE_FAIL', 'TIMEOUT', 'BOOT_FAIL')
_LIVE = ('RUNNING', 'COMPLETING', *_QUEUED)


class Slurm(base.Backend):
  """Runs a job as a batch job with one task for each GPU."""

  OPTIONS: ClassVar = frozenset(
    {'nodes', 'gpus_per_node', 'partition', 'time_limit', 'sbatch_arg'}
  )
  POLL_SECONDS: ClassVar = 10.0

  def __init__(self, job: job_lib.Job, options: Mapping[str, Any]):
    """Prepares a job.

    Args:
      job: to run.
      options: those of launch/run.py in OPTIONS, and `state_dir`, which all
        nodes must see.

    Raises:
      InputError: an option cannot be.
    """
    super().__init__(job)
    travel.check_travels(job, schemes=('gs://', '/'))
    self._options = options
    self._tasks_per_node = max(1, options['gpus_per_node'])
    num_tasks = options['nodes'] * self._tasks_per_node
    if num_tasks > job.max_processes(num_tasks):
      raise errors.InputError(
        f'{job.binary} runs as one process; expected --nodes=1 and'
        ' --gpus_per_node=0 or 1.'
      )
    self._is_distributed = num_tasks > 1
    self._folder = pathlib.Path(options['state_dir']).absolute() / job.name
    self._job_id: str | None = None
    self._offset = 0
    self._is_live = False
    self._code: pathlib.Path | None = None

  def script(self, code: pathlib.Path) -> str:
    """The batch script.

    Args:
      code: folder of the unpacked wheel.

    Returns:
      Its text.
    """
    options = self._options
    settings = [
      f'--job-name={self.job.name}',
      f'--comment={self._comment}',
      f'--nodes={options["nodes"]}',
      f'--ntasks-per-node={self._tasks_per_node}',
      '--requeue',
      '--open-mode=append',
      # Time to save before the time limit.
      '--signal=TERM@120',
      f'--output={self._folder}/%j.log',
    ]
    if options['gpus_per_node']:
      settings.append(f'--gpus-per-node={options["gpus_per_node"]}')
    for name, flag in (('partition', 'partition'), ('time_limit', 'time')):
      if options[name]:
        settings.append(f'--{flag}={options[name]}')
    settings += options['sbatch_arg']
    srun = [
      'srun',
      f'--output={self._folder}/%j_%t.log',
      '--open-mode=append',
      '--kill-on-bad-exit=1',
      *self.job.command(sys.executable, distributed=self._is_distributed),
    ]
    lines = [
      '#!/bin/bash',
      *(f'#SBATCH {setting}' for setting in settings),
      'export PYTHONUNBUFFERED=1',
      command.quote(['cd', str(code)]),
      f'exec {command.quote(srun)}',
    ]
    return '\n'.join(lines) + '\n'

  def plan(self) -> list[base.Step]:
    with tempfile.TemporaryDirectory() as scratch:
      wheel = wheel_lib.build(pathlib.Path(scratch))
    path, code = self._folder / wheel.name, self._code_folder(wheel)
    batch = command.quote([str(self._batch_path)])
    return [
      base.Step(
        f'Build the wheel: {wheel.name}\nsha256 {wheel.sha256}',
        wheel_lib.build_command(self._folder),
      ),
      base.Step(
        'Unpack.', ['python', '-m', 'zipfile', '-e', str(path), str(code)]
      ),
      base.Step(
        'Write the batch script.',
        (),
        f"cat > {batch} <<'SCRIPT'\n{self.script(code)}SCRIPT",
      ),
      base.Step('Submit; it prints the JOBID.', self._submit_args()),
      base.Step(
        'Follow process 0.',
        (),
        f'tail -n +1 -F {command.quote([str(self._folder)])}/JOBID_0.log',
      ),
      base.Step(
        'To stop: it saves and ends.',
        ['scancel', '--me', f'--name={self.job.name}', '--signal=TERM'],
      ),
    ]

  def observe(self) -> base.Observation:
    try:
      jobs = self._queue()
    except errors.ResourceError as e:
      return base.Observation(base.State.UNKNOWN, detail=str(e))
    if self._job_id is None:
      mine = [j for j in jobs if j['name'] == self.job.name]
      if not mine:
        return base.Observation(base.State.ABSENT)
      self._job_id = mine[0]['id']
    for found in jobs:
      if found['id'] == self._job_id:
        return self._observe_queued(found)
    return self._observe_ended()

  def _observe_queued(self, found: Mapping[str, str]) -> base.Observation:
    self._is_live = True
    is_queued = found['state'] in _QUEUED
    marks = found['comment'].split(':')
    is_ours = len(marks) == 3 and marks[0] == _MARK
    return base.Observation(
      base.State.WAITING if is_queued else base.State.RUNNING,
      log=self._new_log(),
      detail=f'{found["state"]}: {found["reason"]}' if is_queued else '',
      # One that we did not submit is another job.
      digest=marks[1] if is_ours else 'not ours',
    )

  def _observe_ended(self) -> base.Observation:
    result = command.run(
      ['sacct', f'--jobs={self._job_id}', '--allocations', '--noheader']
      + ['--parsable2', '--format=State,ExitCode']
    )
    fields = result.stdout.strip().splitlines()[-1:] or ['']
    state, _, code = fields[0].partition('|')
    state = state.split(' ')[0]
    if result.exit_status or not state or state in _LIVE:
      # Accounting lags behind the queue.
      return base.Observation(base.State.UNKNOWN, detail='sacct has no end yet')
    self._is_live = False
    if state in _TAKEN:
      return base.Observation(
        base.State.PREEMPTED, log=self._new_log(), detail=state
      )
    status, _, number = code.partition(':')
    status = int(status or 0) or (128 + int(number) if int(number or 0) else 0)
    if state != 'COMPLETED':
      status = status or 1
    return base.Observation(
      base.State.ENDED, (status,), log=self._new_log(), detail=state
    )

  def other_writer(self) -> str | None:
    if not self.job.is_writer:
      return None
    for found in self._queue():
      marks = found['comment'].split(':')
      if (
        found['name'] != self.job.name
        and len(marks) == 3
        and marks[0] == _MARK
        and marks[2] == self.job.folder_digest
      ):
        return found['name']
    return None

  def create(self) -> None:
    if self._code is None:
      # A restart runs the code that the job was begun with.
      wheel = wheel_lib.build(self._folder)
      self._code = self._code_folder(wheel)
      unpack = ['-m', 'zipfile', '-e', str(wheel.path), str(self._code)]
      command.check([sys.executable, *unpack])
    files.write_atomic(self._batch_path, self.script(self._code))
    result = command.check(
      self._submit_args(),
      hint='Other settings of the cluster can be given with --sbatch_arg.',
    )
    self._job_id = result.stdout.strip().split(';')[0]
    self._offset, self._is_live = 0, True

  def start(self) -> None:
    """Slurm starts it."""

  def stop(self, *, kill: bool = False) -> None:
    signal = [] if kill else ['--signal=TERM']
    command.run(['scancel', *signal, str(self._job_id)])

  def clear(self) -> None:
    if self._is_live:
      self.delete()
    self._job_id, self._offset = None, 0

  def delete(self) -> None:
    if self._is_live and self._job_id:
      command.check(['scancel', self._job_id])
      self._is_live = False

  def delete_command(self) -> Sequence[str]:
    if not self._is_live or not self._job_id:
      return ()
    return ('scancel', self._job_id)

  def save_logs(self) -> str:
    return f'{self._folder}/{self._job_id}*.log'

  @property
  def _comment(self) -> str:
    writes = self.job.folder_digest if self.job.is_writer else 'nothing'
    return f'{_MARK}:{self.job.digest}:{writes}'

  @property
  def _batch_path(self) -> pathlib.Path:
    return self._folder / 'job.sbatch'

  def _code_folder(self, wheel: wheel_lib.Wheel) -> pathlib.Path:
    return self._folder / f'code-{wheel.sha256[:12]}'

  def _submit_args(self) -> list[str]:
    return ['sbatch', '--parsable', str(self._batch_path)]

  @staticmethod
  def _queue() -> list[dict[str, str]]:
    """The user's jobs in the queue."""
    result = command.check(
      ['squeue', '--me', '--noheader', '--format=%i|%j|%T|%r|%k']
    )
    names = ('id', 'name', 'state', 'reason', 'comment')
    rows = (line.split('|', 4) for line in result.stdout.splitlines())
    return [dict(zip(names, row, strict=True)) for row in rows if len(row) == 5]

  def _new_log(self) -> str:
    try:
      with open(self._folder / f'{self._job_id}_0.log', 'rb') as f:
        f.seek(self._offset)
        new = f.read()
    except OSError:
      return ''
    self._offset += len(new)
    return new.decode('utf-8', errors='replace')
