"""Processes on this machine, joined by JAX's distributed runtime.

What a host of a pod does, each process does here: it is started, asked and
stopped by the same launch/jobs/worker.sh.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
import socket
import sys
from typing import ClassVar

from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch.jobs import job as job_lib
from launch.jobs import wheel
from launch.jobs.backends import base
from launch.jobs.backends import worker
from launch.runtime import command


class Local(base.Backend):
  """Runs a job here."""

  OPTIONS: ClassVar = frozenset({'num_processes'})
  POLL_SECONDS: ClassVar = 0.5

  def __init__(self, job: job_lib.Job, options: Mapping[str, object]):
    """Prepares a job.

    Args:
      job: to run.
      options: `num_processes`, and `state_dir` for logs and process numbers.

    Raises:
      InputError: the binary runs as one process alone.
    """
    super().__init__(job)
    self._num_processes = options['num_processes']
    if self._num_processes > job.max_processes(self._num_processes):
      raise errors.InputError(
        f'--num_processes={self._num_processes}: {job.binary} runs as one'
        ' process; leave the flag away.'
      )
    self._folder = pathlib.Path(options['state_dir']) / job.name
    self._offset = 0

  def plan(self) -> list[base.Step]:
    port = str(_free_port())
    log = self._worker_folder(0) / 'log'
    indices = range(self._num_processes)
    return [
      *(
        base.Step(f'Start process {i}.', self._start_args(i, port))
        for i in indices
      ),
      base.Step('Follow process 0.', ['tail', '-n', '+1', '-F', str(log)]),
      *(
        base.Step(
          f'To stop process {i}: it saves and ends.',
          self._worker('stop', i, 'TERM'),
        )
        for i in indices
      ),
    ]

  def observe(self) -> base.Observation:
    record = self._read_record(self._folder)
    if record is None:
      return base.Observation(base.State.READY)
    reports = []
    for index in range(record['num_processes']):
      offset = self._offset if index == 0 else 0
      args = self._worker('report', index, str(offset))
      report = worker.parse(command.run(args).stdout)
      if report is None:
        return base.Observation(base.State.UNKNOWN)
      reports.append(report)
    self._offset += len(reports[0].log)
    return worker.combine(reports, log=reports[0].log, digest=record['digest'])

  def other_writer(self) -> str | None:
    for path in sorted(self._folder.parent.glob('*/job.json')):
      record = self._read_record(path.parent)
      if (
        record is None
        or path.parent == self._folder
        or record['folder_digest'] != self.job.folder_digest
        or not record['is_writer']
      ):
        continue
      for index in range(record['num_processes']):
        args = self._worker('report', index, '0', folder=path.parent)
        report = worker.parse(command.run(args).stdout)
        if report is not None and report.state == 'running':
          return path.parent.name
    return None

  def create(self) -> None:
    """There is always this machine."""

  def start(self) -> None:
    self._folder.mkdir(parents=True, exist_ok=True)
    self._offset = 0
    record = {
      'digest': self.job.digest,
      'folder_digest': self.job.folder_digest,
      'is_writer': self.job.is_writer,
      'num_processes': self._num_processes,
    }
    files.write_atomic(self._folder / 'job.json', json.dumps(record))
    port = str(_free_port())
    for index in range(self._num_processes):
      command.check(self._start_args(index, port))

  def stop(self, *, kill: bool = False) -> None:
    for index in range(self._recorded_processes()):
      command.run(self._worker('stop', index, 'KILL' if kill else 'TERM'))

  def clear(self) -> None:
    for index in range(self._recorded_processes()):
      command.check(self._worker('clear', index))
    (self._folder / 'job.json').unlink(missing_ok=True)
    self._offset = 0

  def delete(self) -> None:
    """There is nothing to give back."""

  def delete_command(self) -> Sequence[str]:
    return ()

  def save_logs(self) -> str:
    return f'{self._folder}/*/log'

  def _recorded_processes(self) -> int:
    record = self._read_record(self._folder)
    return record['num_processes'] if record else 0

  @staticmethod
  def _read_record(folder: pathlib.Path) -> dict | None:
    try:
      return json.loads((folder / 'job.json').read_text())
    except (OSError, ValueError):
      return None

  def _worker_folder(
    self, index: int, folder: pathlib.Path | None = None
  ) -> pathlib.Path:
    return (folder or self._folder) / str(index)

  def _worker(
    self,
    action: str,
    index: int,
    *args: str,
    folder: pathlib.Path | None = None,
  ) -> list[str]:
    path = self._worker_folder(index, folder)
    return ['bash', str(wheel.WORKER_SCRIPT), action, str(path), *args]

  def _start_args(self, index: int, port: str) -> list[str]:
    binary = self.job.command(sys.executable, distributed=False)
    if self._num_processes > 1:
      binary = [
        'env',
        f'JAX_COORDINATOR_ADDRESS=localhost:{port}',
        f'JAX_NUM_PROCESSES={self._num_processes}',
        f'JAX_PROCESS_ID={index}',
        *binary,
      ]
    return self._worker('start', index, *binary)


def _free_port() -> int:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]
