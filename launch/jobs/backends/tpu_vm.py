"""TPU VMs by queued resources, or one that is there already, through gcloud."""

from collections.abc import Mapping, Sequence
import json
import pathlib
import tempfile
from typing import Any, ClassVar

from launch.jobs import job as job_lib
from launch.jobs import slices
from launch.jobs import wheel as wheel_lib
from launch.jobs.backends import base
from launch.jobs.backends import worker
from launch.runtime import command
from launch.runtime import errors

# Below the home folder of the workers.
_FOLDER = 'genre_flax_launch'
_DIGEST_LABEL = 'genre-flax-job'
_WRITES_LABEL = 'genre-flax-writes'
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
    job_lib.check_travels(job)
    self._slice = slices.parse(options['slice_type'])
    self._options = options
    self._is_owned = not options['tpu_name']
    self._node = options['tpu_name'] or job.name
    self._num_workers = job.max_processes(self._slice.num_hosts)
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
        base.Step('Ask for the slice.', self._create_args()),
        base.Step(
          'Wait until this says ACTIVE.',
          [*self._describe_args(), '--format=value(state.state)'],
        ),
      ]
    texts = ('Make a folder on all hosts.', 'Copy.', 'Set up.', 'Start.')
    steps += map(base.Step, texts, self._start_commands())
    follow = f'tail -n +1 -F {self._job_folder}/log'
    steps += [
      base.Step('Follow process 0.', self._ssh(follow, workers='0')),
      base.Step(
        'To stop: it saves and ends.', self._ssh(self._action('stop', 'TERM'))
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
    result = command.run(
      self._gcloud('queued-resources', 'list', '--format=json')
    )
    if result.exit_status:
      raise errors.ResourceError(
        f'gcloud could not list the queued resources:\n  {result.words}'
      )
    for request in json.loads(result.stdout or '[]'):
      name = request['name'].split('/')[-1]
      is_live = _state(request) not in ('FAILED', 'SUSPENDED', 'DELETING')
      written = _labels(request).get(_WRITES_LABEL)
      if is_live and name != self.job.name and written == self._writes:
        return name
    return None

  def create(self) -> None:
    if not self._is_owned:
      raise errors.InputError(
        f'There is no TPU VM {self._node} in {self._options["zone"]}; leave'
        ' --tpu_name away to have one created.'
      )
    result = command.run(self._create_args())
    # Another launcher may have been quicker; both then see the same request.
    if result.exit_status and 'ALREADY_EXISTS' not in result.stderr:
      raise errors.ResourceError(
        f'gcloud refused the slice {self._slice.type}. It said:\n'
        f'  {result.words}\n{_QUOTA_HINT}'
      )

  def start(self) -> None:
    self._offset = 0
    # A restart runs the code that the job was begun with.
    self._wheel = self._wheel or wheel_lib.build(self._folder)
    for args in self._start_commands():
      command.check(
        args, hint='The slice is left; the same command tries again on it.'
      )

  def stop(self, *, kill: bool = False) -> None:
    command.run(self._ssh(self._action('stop', 'KILL' if kill else 'TERM')))

  def clear(self) -> None:
    self._offset = 0
    if self._is_owned:
      request = self._describe()
      if request is None:
        return
      if _state(request) != 'ACTIVE' or self._reports() is None:
        self.delete()
        return
    command.check(self._ssh(self._action('clear')))

  def delete(self) -> None:
    if self._is_owned:
      result = command.run(self.delete_command())
      if result.exit_status and 'NOT_FOUND' not in result.stderr:
        raise errors.ResourceError(f'gcloud said:\n  {result.words}')

  def delete_command(self) -> Sequence[str]:
    if not self._is_owned:
      return ()
    return self._gcloud(
      'queued-resources', 'delete', self.job.name, '--force', '--quiet'
    )

  def save_logs(self) -> str:
    return f'{self._folder}/process_*.log (their ends)'

  @property
  def _writes(self) -> str:
    return self.job.folder_digest if self.job.is_writer else 'nothing'

  @property
  def _job_folder(self) -> str:
    return f'{_FOLDER}/jobs/{self.job.name}'

  def _observe_request(self) -> tuple[base.Observation, bool]:
    """The queued resource, and whether its machines are there."""
    try:
      request = self._describe()
    except errors.ResourceError as e:
      return base.Observation(base.State.UNKNOWN, detail=str(e)), False
    if request is None:
      return base.Observation(base.State.ABSENT), False
    state, details = _state(request), request.get('state', {})
    digest = _labels(request).get(_DIGEST_LABEL)
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
    result = command.run(
      self._gcloud('tpu-vm', 'describe', self._node, '--format=value(state)')
    )
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
    result = command.run([*self._describe_args(), '--format=json'])
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
    if first is None or self._num_workers == 1:
      return first and list(first.values())
    # The others' logs are as long as they are: their ends are enough.
    reports = self._ask('all', -worker.TAIL_BYTES)
    if reports is None or len(reports) != self._num_workers:
      return None
    for index, report in reports.items():
      worker.keep_tail(self._folder, index, report.log)
    return [first[0], *(reports[i] for i in range(1, self._num_workers))]

  def _ask(self, workers: str, offset: int) -> dict[int, worker.Report] | None:
    with tempfile.TemporaryDirectory() as folder:
      result = command.run(
        [
          *self._ssh(self._action('report', str(offset)), workers=workers),
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

  def _start_commands(self) -> list[list[str]]:
    python, script = '../venv/bin/python', '../worker.sh'
    is_distributed = self._num_workers > 1
    binary = self.job.command(python, distributed=is_distributed)
    start = ['bash', script, 'start', f'../jobs/{self.job.name}', *binary]
    setup = ['setup', self._wheel.name, self._wheel.sha256]
    return [
      self._ssh(f'mkdir -p {_FOLDER}'),
      self._gcloud(
        'tpu-vm',
        'scp',
        str(self._wheel.path),
        str(wheel_lib.REQUIREMENTS),
        str(wheel_lib.WORKER_SCRIPT),
        f'{self._node}:{_FOLDER}/',
        f'--worker={self._workers}',
        '--quiet',
      ),
      self._ssh(command.quote(['bash', f'{_FOLDER}/worker.sh', *setup])),
      self._ssh(f'cd {_FOLDER}/code && {command.quote(start)}'),
    ]

  @property
  def _workers(self) -> str:
    return 'all' if self._num_workers > 1 else '0'

  def _action(self, action: str, *args: str) -> str:
    script = f'{_FOLDER}/worker.sh'
    line = command.quote(['bash', script, action, self._job_folder, *args])
    if action != 'report':
      return line
    # A host that was not set up yet has no script, and runs nothing.
    return f'if [ -e {script} ]; then {line}; else echo {worker.NOTHING}; fi'

  def _ssh(self, remote: str, *, workers: str | None = None) -> list[str]:
    return self._gcloud(
      'tpu-vm',
      'ssh',
      self._node,
      f'--worker={workers or self._workers}',
      '--quiet',
      f'--command={remote}',
    )

  def _create_args(self) -> list[str]:
    args = self._gcloud(
      'queued-resources',
      'create',
      self.job.name,
      f'--node-id={self._node}',
      f'--accelerator-type={self._slice.type}',
      '--runtime-version='
      + (self._options['runtime_version'] or self._slice.runtime_version),
      f'--labels={_DIGEST_LABEL}={self.job.digest},{_WRITES_LABEL}={self._writes}',
      '--quiet',
    )
    return [*args, '--spot'] if self._options['spot'] else args

  def _describe_args(self) -> list[str]:
    return self._gcloud('queued-resources', 'describe', self.job.name)

  def _gcloud(self, *args: str) -> list[str]:
    where = [f'--zone={self._options["zone"]}']
    if self._options['project']:
      where.append(f'--project={self._options["project"]}')
    return ['gcloud', 'compute', 'tpus', *args, *where]


def _state(request: Mapping[str, Any]) -> str:
  return request.get('state', {}).get('state', 'STATE_UNSPECIFIED')


def _labels(request: Mapping[str, Any]) -> dict[str, str]:
  specs = request.get('tpu', {}).get('nodeSpec') or [{}]
  return specs[0].get('node', {}).get('labels', {})
