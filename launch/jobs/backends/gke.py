"""A Kubernetes JobSet on TPU nodes of GKE, through kubectl."""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any, ClassVar

from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch.jobs import job as job_lib
from launch.jobs import slices
from launch.jobs import travel
from launch.jobs.backends import base
from launch.jobs.backends import jobset
from launch.jobs.backends import worker
from launch.runtime import command


class Gke(base.Backend):
  """Runs a job as a JobSet."""

  OPTIONS: ClassVar = frozenset(
    {'slice_type', 'spot', 'image', 'namespace', 'kube_context'}
    | {'service_account', 'grace_minutes'}
  )
  POLL_SECONDS: ClassVar = 15.0

  def __init__(self, job: job_lib.Job, options: Mapping[str, Any]):
    """Prepares a job.

    Args:
      job: to run.
      options: those of launch/run.py in OPTIONS, and `state_dir`.

    Raises:
      InputError: an option is missing or cannot be.
    """
    super().__init__(job)
    for name, example in (
      ('image', 'REGISTRY/genre_flax:TAG'),
      ('slice_type', 'v5litepod-16'),
    ):
      if not options[name]:
        raise errors.InputError(
          f'--{name} is missing; --backend=gke needs it, such as'
          f' --{name}={example}.'
        )
    travel.check_travels(job)
    self._slice = slices.parse(options['slice_type'])
    if self._slice.gke_accelerator is None:
      raise errors.InputError(
        f'--slice_type={self._slice.type}: GKE has v4 and later; use'
        ' --backend=tpu_vm for this one.'
      )
    if job.max_processes(self._slice.num_hosts) < self._slice.num_hosts:
      raise errors.InputError(
        f'--slice_type={self._slice.type} has {self._slice.num_hosts} hosts,'
        f' and {job.binary} runs on one; choose a slice of one host, such as'
        ' v5litepod-1.'
      )
    self._options = options
    self._folder = pathlib.Path(options['state_dir']) / job.name
    self._shown = 0

  @property
  def manifest(self) -> dict[str, Any]:
    """The JobSet."""
    return jobset.make(self.job, self._slice, self._options)

  def plan(self) -> list[base.Step]:
    path = self._folder / 'jobset.json'
    text = json.dumps(self.manifest, indent=2)
    folder = command.quote(['mkdir', '-p', str(self._folder)])
    target = command.quote([str(path)])
    script = f"{folder}\ncat > {target} <<'MANIFEST'\n{text}\nMANIFEST"
    return [
      base.Step('Write the manifest.', (), script),
      base.Step('Start.', self._apply_args()),
      base.Step(
        'Follow process 0.',
        self._kubectl(
          'logs',
          '--follow',
          '--tail=-1',
          f'--selector={self._selector},{jobset.INDEX_LABEL}=0',
        ),
      ),
      base.Step(
        'To stop: it saves and ends; and to delete.', self.delete_command()
      ),
    ]

  def observe(self) -> base.Observation:
    result = command.run(
      self._kubectl('get', 'jobset', self.job.name, '--output=json')
    )
    if result.exit_status:
      if 'NotFound' in result.stderr or 'not found' in result.stderr:
        return base.Observation(base.State.ABSENT)
      return base.Observation(base.State.UNKNOWN, detail=result.words)
    found = json.loads(result.stdout)
    digest = found['metadata'].get('labels', {}).get(jobset.DIGEST_LABEL)
    pods = self._pods()
    if pods is None:
      return base.Observation(
        base.State.UNKNOWN, detail='its pods cannot be listed', digest=digest
      )
    state, detail = self._judge(found, pods)
    return base.Observation(
      state,
      statuses=tuple(
        jobset.exit_code(pods[i]) if i in pods else None
        for i in range(self._slice.num_hosts)
      ),
      log=self._new_log(pods),
      detail=detail,
      digest=digest,
    )

  def _judge(self, found, pods) -> tuple[base.State, str]:
    phases = {jobset.phase(pod) for pod in pods.values()}
    if found['metadata'].get('deletionTimestamp'):
      # Its pods have their grace period to save and end.
      is_ending = 'Running' in phases
      state = base.State.RUNNING if is_ending else base.State.WAITING
      return state, 'it is being deleted'
    conditions = jobset.true_conditions(found)
    lost = [jobset.lost_reason(pod) for _, pod in sorted(pods.items())]
    if any(lost):
      return base.State.PREEMPTED, next(filter(None, lost))
    if 'Completed' in conditions:
      return base.State.ENDED, ''
    if 'Failed' in conditions:
      if any(jobset.exit_code(pod) for pod in pods.values()):
        return base.State.ENDED, ''
      # Their node is gone, and they with it.
      return base.State.PREEMPTED, conditions['Failed'].get('message', '')
    if len(pods) < self._slice.num_hosts or 'Pending' in phases:
      reasons = map(jobset.waiting_reason, pods.values())
      return base.State.WAITING, next(filter(None, reasons), '')
    return base.State.RUNNING, ''

  def other_writer(self) -> str | None:
    selector = f'{jobset.WRITES_LABEL}={self.job.folder_digest}'
    result = command.check(
      self._kubectl('get', 'jobset', f'--selector={selector}', '--output=json'),
      hint=(
        'Choose a cluster with `gcloud container clusters get-credentials`; it'
        ' needs the JobSet controller.'
      ),
    )
    for found in json.loads(result.stdout)['items']:
      name = found['metadata']['name']
      is_over = jobset.true_conditions(found).keys() & {'Completed', 'Failed'}
      if name != self.job.name and not is_over:
        return name
    return None

  def create(self) -> None:
    self._folder.mkdir(parents=True, exist_ok=True)
    files.write_atomic(
      self._folder / 'jobset.json', json.dumps(self.manifest, indent=2)
    )
    self._shown = 0
    # create, not apply: of two launchers one gets "already exists".
    result = command.run(self._apply_args())
    if result.exit_status and 'already exists' not in result.stderr:
      raise errors.ResourceError(
        f'kubectl could not create the JobSet. It said:\n  {result.words}'
      )

  def start(self) -> None:
    """Kubernetes starts it."""

  def stop(self, *, kill: bool = False) -> None:
    if kill:
      self.delete()
    else:
      # Pods get SIGTERM and their grace period, and are followed meanwhile.
      command.run([*self.delete_command(), '--wait=false'])

  def clear(self) -> None:
    self._shown = 0
    self.delete()

  def delete(self) -> None:
    command.check(self.delete_command())

  def delete_command(self) -> Sequence[str]:
    return self._kubectl(
      'delete',
      'jobset',
      self.job.name,
      '--ignore-not-found',
      '--cascade=foreground',
    )

  def save_logs(self) -> str:
    pods = self._pods() or {}
    for index, pod in pods.items():
      log = self._log(pod)
      if log is not None:
        worker.keep_tail(
          self._folder, index, log[-worker.TAIL_BYTES :].encode()
        )
    return f'{self._folder}/process_*.log' if pods else ''

  @property
  def _selector(self) -> str:
    return f'jobset.sigs.k8s.io/jobset-name={self.job.name}'

  def _pods(self) -> dict[int, jobset.Pod] | None:
    """The pods by index; None where they cannot be listed."""
    result = command.run(
      self._kubectl(
        'get', 'pods', f'--selector={self._selector}', '--output=json'
      )
    )
    if result.exit_status:
      return None
    pods = json.loads(result.stdout)['items']
    return {jobset.index(pod): pod for pod in pods}

  def _log(self, pod: jobset.Pod) -> str | None:
    if jobset.phase(pod) == 'Pending':
      return None
    name = pod['metadata']['name']
    result = command.run(
      self._kubectl('logs', name, f'--container={jobset.CONTAINER}')
    )
    return None if result.exit_status else result.stdout

  def _new_log(self, pods: Mapping[int, jobset.Pod]) -> str:
    # kubectl gives logs from a time on, not from a byte on.
    log = (self._log(pods[0]) if 0 in pods else None) or ''
    new, self._shown = log[self._shown :], max(self._shown, len(log))
    return new

  def _apply_args(self) -> list[str]:
    path = str(self._folder / 'jobset.json')
    return self._kubectl('create', f'--filename={path}')

  def _kubectl(self, *args: str) -> list[str]:
    where = [f'--namespace={self._options["namespace"]}']
    if self._options['kube_context']:
      where.append(f'--context={self._options["kube_context"]}')
    return ['kubectl', *args, *where]
