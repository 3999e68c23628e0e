"""TPU VMs by queued resources, or one that is there already, through gcloud."""

from collections.abc import Mapping, Sequence
import json
import pathlib
import tempfile
from typing import Any, ClassVar

from genre_flax.runtime import errors
from launch.jobs import job as job_lib
from launch.jobs import slices
from launch.jobs import travel
from launch.jobs import wheel as wheel_lib
from launch.jobs.backends import base
from launch.jobs.backends import gcloud
from launch.jobs.backends import worker
from launch.runtime import command

_GONE = ('PREEMPTED', 'TERMINATED', 'STOPPED', 'STOPPING', 'DELETING')
_QUOTA_HINT = (
  'If it speaks of quota or permission: ask for it in the console under "IAM &'
  ' Admin", or choose another --zone, a smaller --slice_type, or --spot, which'
  ' has a quota of its own.'
)


class TpuVm(base.Backend):
  """Runs a job on the hosts of a slice."""

  OPTIONS: ClassVar = frozenset(
    {'slice_type', 'spot', 'zone', 'project', 'runtime_version', 'tpu_name'}
  )
  POLL_SECONDS: ClassVar = 20.0

  def __init__(self, job: job_lib.Job, options: Mapping[str, Any]):
    """Prepares a job.

    Args:
      job: to run.
      options: those of launch/run.py in OPTIONS, and `state_dir`.

    Raises:
      InputError: an option is missing or cannot be.
    """
    super().__init__(job)
    for name in ('zone', 'slice_type'):
      if not options[name]:
        raise errors.InputError(
          f'--{name} is missing; --backend=tpu_vm needs it, such as'
          ' --zone=us-west4-a --slice_type=v5litepod-16.'
        )
    travel.check_travels(job)
    self._is_owned = not options['tpu_name']
    self._commands = gcloud.Commands(
      job,
      slice=slices.parse(options['slice_type']),
      node=options['tpu_name'] or job.name,
      options=options,
    )
    self._folder = pathlib.Path(options['state_dir']) / job.name
    self._offset = 0
    self._wheel: wheel_lib.Wheel | None = None

  def plan(self) -> list[base.Step]:
    with tempfile.TemporaryDirectory() as scratch:
      self._wheel = wheel_lib.build(pathlib.Path(scratch))
    self._wheel = wheel_lib.Wheel(
      self._folder / self._wheel.name, self._wheel.sha256
    )
    steps = [
      base.Step(
        f'Build the wheel: {self._wheel.name}\nsha256 {self._wheel.sha256}',
        wheel_lib.build_command(self._folder),
      )
    ]
    if self._is_owned:
      steps += [
        base.Step('Ask for the slice.', self._commands.create_request()),
        base.Step(
          'Wait until this says ACTIVE.',
          self._commands.describe_request('--format=value(state.state)'),
        ),
      ]
    texts = ('Make a folder on all hosts.', 'Copy.', 'Set up.', 'Start.')
    steps += map(base.Step, texts, self._commands.start(self._wheel))
    follow = f'tail -n +1 -F {self._commands.job_folder}/log'
    steps += [
      base.Step('Follow process 0.', self._commands.ssh(follow, workers='0')),
      base.Step(
        'To stop: it saves and ends.', self._commands.act('stop', 'TERM')
      ),
    ]
    if self._is_owned:
      steps.append(base.Step('To delete the slice.', self.delete_command()))
    return steps

  def observe(self) -> base.Observation:
    if self._is_owned:
      observation, is_active = self._observe_request()
      if not is_active:
        return observation
      digest = observation.digest
    else:
      digest = None
    reports = self._reports()
    if reports is None:
      return self._observe_node(digest)
    first = reports[0]
    self._offset += len(first.log)
    return worker.combine(reports, log=first.log, digest=digest)

  def other_writer(self) -> str | None:
    result = command.run(self._commands.list_requests())
    if result.exit_status:
      raise errors.ResourceError(
        f'gcloud could not list the queued resources:\n  {result.words}'
      )
    for request in json.loads(result.stdout or '[]'):
      name = request['name'].split('/')[-1]
      is_live = gcloud.state(request) not in ('FAILED', 'SUSPENDED', 'DELETING')
      written = gcloud.labels(request).get(gcloud.WRITES_LABEL)
      if is_live and name != self.job.name and written == self._commands.writes:
        return name
    return None

  def create(self) -> None:
    if not self._is_owned:
      raise errors.InputError(
        f'There is no TPU VM {self._commands.node} in'
        f' {self._commands.options["zone"]}; leave'
        ' --tpu_name away to have one created.'
      )
    result = command.run(self._commands.create_request())
    # Another launcher may have been quicker; both then see the same request.
    if result.exit_status and 'ALREADY_EXISTS' not in result.stderr:
      raise errors.ResourceError(
        f'gcloud refused the slice {self._commands.slice.type}. It said:\n'
        f'  {result.words}\n{_QUOTA_HINT}'
      )

  def start(self) -> None:
    self._offset = 0
    # A restart runs the code that the job was begun with.
    self._wheel = self._wheel or wheel_lib.build(self._folder)
    for args in self._commands.start(self._wheel):
      command.check(
        args, hint='The slice is left; the same command tries again on it.'
      )

  def stop(self, *, kill: bool = False) -> None:
    command.run(self._commands.act('stop', 'KILL' if kill else 'TERM'))

  def clear(self) -> None:
    self._offset = 0
    if self._is_owned:
      request = self._describe()
      if request is None:
        return
      if gcloud.state(request) != 'ACTIVE' or self._reports() is None:
        self.delete()
        return
    command.check(self._commands.act('clear'))

  def delete(self) -> None:
    if self._is_owned:
      result = command.run(self.delete_command())
      if result.exit_status and 'NOT_FOUND' not in result.stderr:
        raise errors.ResourceError(f'gcloud said:\n  {result.words}')

  def delete_command(self) -> Sequence[str]:
    if not self._is_owned:
      return ()
    return self._commands.delete_request()

  def save_logs(self) -> str:
    return f'{self._folder}/process_*.log (their ends)'

  def _observe_request(self) -> tuple[base.Observation, bool]:
    """The queued resource, and whether its machines are there."""
    try:
      request = self._describe()
    except errors.ResourceError as e:
      return base.Observation(base.State.UNKNOWN, detail=str(e)), False
    if request is None:
      return base.Observation(base.State.ABSENT), False
    state, details = gcloud.state(request), request.get('state', {})
    digest = gcloud.labels(request).get(gcloud.DIGEST_LABEL)
    if state in ('SUSPENDING', 'SUSPENDED'):
      found = base.State.PREEMPTED
    elif state == 'FAILED':
      found = base.State.FAILED
    else:
      found = base.State.WAITING
    error = details.get('failedData', {}).get('error', {}).get('message', '')
    observation = base.Observation(
      found, detail=': '.join(filter(None, (state, error))), digest=digest
    )
    return observation, state == 'ACTIVE'

  def _observe_node(self, digest: str | None) -> base.Observation:
    """The machines, where they do not answer."""
    result = command.run(self._commands.describe_node())
    if 'NOT_FOUND' in result.stderr:
      # A request whose machines are gone is not yet told so itself.
      gone = base.State.PREEMPTED if self._is_owned else base.State.ABSENT
      return base.Observation(gone, detail='no such TPU VM')
    state = result.stdout.strip()
    if state in _GONE:
      return base.Observation(base.State.PREEMPTED, detail=state)
    return base.Observation(
      base.State.UNKNOWN, detail='ssh does not reach it', digest=digest
    )

  def _describe(self) -> dict[str, Any] | None:
    result = command.run(self._commands.describe_request('--format=json'))
    if result.exit_status == 0:
      return json.loads(result.stdout)
    if 'NOT_FOUND' in result.stderr:
      return None
    raise errors.ResourceError(
      f'gcloud could not describe {self.job.name}. It said:\n  {result.words}'
    )

  def _reports(self) -> list[worker.Report] | None:
    """Of all workers; None where one does not answer."""
    first = self._ask('0', self._offset)
    if first is None or self._commands.num_workers == 1:
      return first and list(first.values())
    # The others' logs are as long as they are: their ends are enough.
    reports = self._ask('all', -worker.TAIL_BYTES)
    if reports is None or len(reports) != self._commands.num_workers:
      return None
    for index, report in reports.items():
      worker.keep_tail(self._folder, index, report.log)
    return [
      first[0],
      *(reports[i] for i in range(1, self._commands.num_workers)),
    ]

  def _ask(self, workers: str, offset: int) -> dict[int, worker.Report] | None:
    with tempfile.TemporaryDirectory() as folder:
      result = command.run(
        [
          *self._commands.act('report', str(offset), workers=workers),
          f'--output-directory={folder}',
        ],
        timeout_seconds=300.0,
      )
      outputs = {
        int(path.stem): path.read_text(errors='replace')
        for path in pathlib.Path(folder).glob('*.log')
      }
    if result.exit_status:
      return None
    reports = {i: worker.parse(text) for i, text in sorted(outputs.items())}
    return None if None in reports.values() or not reports else reports
