"""The JobSet of a job: its manifest, and what its pods tell."""

from collections.abc import Mapping
from typing import Any

from launch.jobs import job as job_lib
from launch.jobs import slices

CONTAINER = 'genre-flax'
DIGEST_LABEL = 'genre-flax-job'
WRITES_LABEL = 'genre-flax-writes'
INDEX_LABEL = 'batch.kubernetes.io/job-completion-index'
_GROUP = 'slice'
# Why a pod ended without a fault of its own.
_LOST_REASONS = ('Preempted', 'Shutdown', 'Terminated', 'NodeLost', 'Evicted')

Pod = Mapping[str, Any]


def make(
  job: job_lib.Job, slice_: slices.Slice, options: Mapping[str, Any]
) -> dict[str, Any]:
  """The manifest, as values that JSON holds.

  It restarts nothing by itself (maxRestarts, backoffLimit 0): the supervisor
  decides, as on all backends, and creates it once more.

  Args:
    job: to run.
    slice_: to run it on.
    options: `image`, `spot`, `service_account` and `grace_minutes`.

  Returns:
    The JobSet.
  """
  writes = job.folder_digest if job.is_writer else 'nothing'
  spec = {
    'backoffLimit': 0,
    'completionMode': 'Indexed',
    'completions': slice_.num_hosts,
    'parallelism': slice_.num_hosts,
    'template': {'spec': _make_pod(job, slice_, options)},
  }
  return {
    'apiVersion': 'jobset.x-k8s.io/v1alpha2',
    'kind': 'JobSet',
    'metadata': {
      'name': job.name,
      'labels': {DIGEST_LABEL: job.digest, WRITES_LABEL: writes},
      # All pods of the job on one node pool: one pool is one slice.
      'annotations': {
        'alpha.jobset.sigs.k8s.io/exclusive-topology': (
          'cloud.google.com/gke-nodepool'
        )
      },
    },
    'spec': {
      'failurePolicy': {'maxRestarts': 0},
      'replicatedJobs': [
        {'name': _GROUP, 'replicas': 1, 'template': {'spec': spec}}
      ],
    },
  }


def _make_pod(job, slice_, options) -> dict[str, Any]:
  selector = {
    'cloud.google.com/gke-tpu-accelerator': slice_.gke_accelerator,
    'cloud.google.com/gke-tpu-topology': slice_.topology,
  }
  tolerations = []
  if options['spot']:
    spot = {'key': 'cloud.google.com/gke-spot', 'value': 'true'}
    selector[spot['key']] = spot['value']
    tolerations.append({**spot, 'operator': 'Equal', 'effect': 'NoSchedule'})
  chips = {'google.com/tpu': str(slice_.chips_per_host)}
  pod = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': round(options['grace_minutes'] * 60),
    'nodeSelector': selector,
    'tolerations': tolerations,
    'containers': [
      {
        'name': CONTAINER,
        'image': options['image'],
        # No shell between: SIGTERM goes to the binary, which then saves.
        'command': job.command('python', distributed=slice_.num_hosts > 1),
        'env': [{'name': 'PYTHONUNBUFFERED', 'value': '1'}],
        # libtpu's port between the hosts of a slice, and JAX's coordinator.
        'ports': [{'containerPort': 8471}, {'containerPort': 8476}],
        'resources': {'requests': chips, 'limits': chips},
      }
    ],
  }
  if options['service_account']:
    pod['serviceAccountName'] = options['service_account']
  return pod


def true_conditions(resource: Mapping[str, Any]) -> dict[str, Any]:
  """The conditions of a JobSet or pod that hold, by type."""
  return {
    condition['type']: condition
    for condition in resource.get('status', {}).get('conditions', [])
    if condition.get('status') == 'True'
  }


def index(pod: Pod) -> int:
  """The index of a pod in its job."""
  metadata = pod['metadata']
  places = (metadata.get('labels', {}), metadata.get('annotations', {}))
  return int(next((p[INDEX_LABEL] for p in places if INDEX_LABEL in p), 0))


def phase(pod: Pod) -> str:
  """Pending, Running, Succeeded, Failed or Unknown."""
  return pod['status'].get('phase', 'Pending')


def exit_code(pod: Pod) -> int | None:
  """Exit status of the pod's container; None while there is none."""
  for status in pod['status'].get('containerStatuses', []):
    terminated = status.get('state', {}).get('terminated') or {}
    return terminated.get('exitCode')
  return None


def lost_reason(pod: Pod) -> str | None:
  """Why the pod was taken away; None where it was not."""
  disruption = true_conditions(pod).get('DisruptionTarget')
  if disruption:
    return disruption.get('reason', 'DisruptionTarget')
  reason = pod['status'].get('reason')
  return reason if reason in _LOST_REASONS else None


def waiting_reason(pod: Pod) -> str:
  """What a pod waits for, as Kubernetes says it."""
  for status in pod['status'].get('containerStatuses', []):
    waiting = status.get('state', {}).get('waiting') or {}
    if waiting.get('reason', '').startswith(('ErrImage', 'ImagePull')):
      return waiting.get('message') or waiting['reason']
  for condition in pod['status'].get('conditions', []):
    if condition['type'] == 'PodScheduled' and condition['status'] == 'False':
      return condition.get('message', '')
  return ''
