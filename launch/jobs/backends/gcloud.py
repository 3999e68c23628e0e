"""The commands of gcloud for TPU VMs and queued resources."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from launch.jobs import job as job_lib
from launch.jobs import slices
from launch.jobs import wheel as wheel_lib
from launch.jobs.backends import worker
from launch.runtime import command

# Below the home folder of the workers.
FOLDER = 'genre_flax_launch'
DIGEST_LABEL = 'genre-flax-job'
WRITES_LABEL = 'genre-flax-writes'


@dataclasses.dataclass(frozen=True)
class Commands:
  """What is typed for one job on one slice.

  Attributes:
    job: that runs.
    slice: its type.
    node: name of the TPU VM.
    options: zone, project, spot and runtime_version of launch/run.py.
  """

  job: job_lib.Job
  slice: slices.Slice
  node: str
  options: Mapping[str, Any]

  @property
  def num_workers(self) -> int:
    """Hosts that the job makes use of."""
    return self.job.max_processes(self.slice.num_hosts)

  @property
  def job_folder(self) -> str:
    """On each host, below its home folder."""
    return f'{FOLDER}/jobs/{self.job.name}'

  @property
  def writes(self) -> str:
    """The label of the folder that the job writes."""
    return self.job.folder_digest if self.job.is_writer else 'nothing'

  @property
  def _workers(self) -> str:
    return 'all' if self.num_workers > 1 else '0'

  def create_request(self) -> list[str]:
    """Asks for the slice, by a queued resource."""
    args = self._gcloud(
      'queued-resources',
      'create',
      self.job.name,
      f'--node-id={self.node}',
      f'--accelerator-type={self.slice.type}',
      '--runtime-version='
      + (self.options['runtime_version'] or self.slice.runtime_version),
      f'--labels={DIGEST_LABEL}={self.job.digest},{WRITES_LABEL}={self.writes}',
      '--quiet',
    )
    return [*args, '--spot'] if self.options['spot'] else args

  def describe_request(self, *flags: str) -> list[str]:
    """Tells the state of the queued resource."""
    args = self._gcloud('queued-resources', 'describe', self.job.name)
    return [*args, *flags]

  def list_requests(self) -> list[str]:
    """All queued resources, as JSON."""
    return self._gcloud('queued-resources', 'list', '--format=json')

  def delete_request(self) -> list[str]:
    """Gives the slice back."""
    return self._gcloud(
      'queued-resources', 'delete', self.job.name, '--force', '--quiet'
    )

  def describe_node(self) -> list[str]:
    """Tells the state of the TPU VM."""
    return self._gcloud(
      'tpu-vm', 'describe', self.node, '--format=value(state)'
    )

  def start(self, wheel: wheel_lib.Wheel) -> list[list[str]]:
    """Makes a folder on all hosts, copies the code, sets up, and starts."""
    python, script = '../venv/bin/python', '../worker.sh'
    binary = self.job.command(python, distributed=self.num_workers > 1)
    start = ['bash', script, 'start', f'../jobs/{self.job.name}', *binary]
    setup = ['setup', wheel.name, wheel.sha256]
    return [
      self.ssh(f'mkdir -p {FOLDER}'),
      self._gcloud(
        'tpu-vm',
        'scp',
        str(wheel.path),
        str(wheel_lib.REQUIREMENTS),
        str(wheel_lib.WORKER_SCRIPT),
        f'{self.node}:{FOLDER}/',
        f'--worker={self._workers}',
        '--quiet',
      ),
      self.ssh(command.quote(['bash', f'{FOLDER}/worker.sh', *setup])),
      self.ssh(f'cd {FOLDER}/code && {command.quote(start)}'),
    ]

  def act(
    self, action: str, *args: str, workers: str | None = None
  ) -> list[str]:
    """Lets worker.sh do something on the hosts.

    Args:
      action: of worker.sh: report, stop or clear.
      *args: of the action.
      workers: number of one, or 'all'; None for those of the job.
    """
    script = f'{FOLDER}/worker.sh'
    line = command.quote(['bash', script, action, self.job_folder, *args])
    if action == 'report':
      # A host that was not set up yet has no script, and runs nothing.
      line = f'if [ -e {script} ]; then {line}; else echo {worker.NOTHING}; fi'
    return self.ssh(line, workers=workers)

  def ssh(self, remote: str, *, workers: str | None = None) -> list[str]:
    """Runs a line of shell on the hosts."""
    return self._gcloud(
      'tpu-vm',
      'ssh',
      self.node,
      f'--worker={workers or self._workers}',
      '--quiet',
      f'--command={remote}',
    )

  def _gcloud(self, *args: str) -> list[str]:
    where = [f'--zone={self.options["zone"]}']
    if self.options['project']:
      where.append(f'--project={self.options["project"]}')
    return ['gcloud', 'compute', 'tpus', *args, *where]


def state(request: Mapping[str, Any]) -> str:
  """The state of a queued resource, as `describe_request` tells it."""
  return request.get('state', {}).get('state', 'STATE_UNSPECIFIED')


def labels(request: Mapping[str, Any]) -> dict[str, str]:
  """The labels of a queued resource."""
  specs: Sequence[Any] = request.get('tpu', {}).get('nodeSpec') or [{}]
  return specs[0].get('node', {}).get('labels', {})
