"""Kubernetes: the manifest of a JobSet, with the node labels of GKE."""

from collections.abc import Mapping, Sequence
from typing import Any

from genre_flax.runtime import errors
from launch import job as job_lib
from launch.engines import skypilot

OPTIONS = (
  *('image', 'namespace', 'queue', 'priority_class', 'service_account'),
  *('num_slices', 'node_selector'),
)
SUFFIX = '.jobset.yaml'
SHARES_FILES = False

_CONTAINER = 'genre-flax'
_GROUP = 'workers'
# Multi-host node pools of GKE, and its pools of four v5e or v6e, have machines
# of four chips each.
_MAX_CHIPS_PER_POD = 4
_GRACE_SECONDS = 300


def make(job: job_lib.Job, options: Mapping[str, Any]) -> str:
  """The JobSet: one Job for each slice, one pod for each of its hosts."""
  if not options['image']:
    raise errors.InputError(
      '--image is missing: the container image built with launch/Dockerfile.'
    )
  if job.slice and not job.slice.chip.gke_accelerator:
    raise errors.InputError(f'GKE has no slices of {job.slice.chip.name}.')
  num_pods = _num_pods(job)
  metadata: dict[str, Any] = {'name': job.name}
  if options['namespace']:
    metadata['namespace'] = options['namespace']
  if options['queue']:
    metadata['labels'] = {'kueue.x-k8s.io/queue-name': options['queue']}
  if job.slice and num_pods > 1:
    # All pods of a slice on one node pool, which is one slice.
    metadata['annotations'] = {
      'alpha.jobset.sigs.k8s.io/exclusive-topology': (
        'cloud.google.com/gke-nodepool'
      )
    }
  template = {
    'backoffLimit': 0,
    'completionMode': 'Indexed',
    'completions': num_pods,
    'parallelism': num_pods,
    'podFailurePolicy': {'rules': _pod_failure_rules()},
    'template': _pod_template(job, options, num_pods),
  }
  return skypilot.dump(
    {
      'apiVersion': 'jobset.x-k8s.io/v1alpha2',
      'kind': 'JobSet',
      'metadata': metadata,
      'spec': {
        'failurePolicy': {
          'maxRestarts': job.max_restarts,
          'rules': _failure_rules(),
        },
        'replicatedJobs': [
          {
            'name': _GROUP,
            'replicas': job.num_slices,
            'template': {'spec': template},
          }
        ],
      },
    }
  )


def _num_pods(job) -> int:
  """Pods of a slice, or of a job without slices."""
  if not job.slice:
    return job.num_nodes
  return max(1, job.slice.num_chips // _MAX_CHIPS_PER_POD)


def _pod_failure_rules() -> list[dict[str, Any]]:
  """Ends of a pod that fail its Job with the reason PodFailurePolicy."""
  final = [status for status in job_lib.FINAL_STATUSES if status]
  on_exit_codes = {
    'containerName': _CONTAINER,
    'operator': 'In',
    'values': final,
  }
  disrupted = [{'type': 'DisruptionTarget', 'status': 'True'}]
  return [
    {'action': 'FailJob', 'onExitCodes': on_exit_codes},
    {'action': 'FailJob', 'onPodConditions': disrupted},
  ]


def _failure_rules() -> list[dict[str, Any]]:
  """Actions for failed Jobs, by the message; others count as restarts."""
  final = '|'.join(str(s) for s in job_lib.FINAL_STATUSES if s)
  reasons = {'onJobFailureReasons': ['PodFailurePolicy']}
  return [
    {
      'name': 'finalStatus',
      'action': 'FailJobSet',
      **reasons,
      'onJobFailureMessagePatterns': [f'failed with exit code ({final}) '],
    },
    {
      'name': 'disruption',
      'action': 'RestartJobSetAndIgnoreMaxRestarts',
      **reasons,
      'onJobFailureMessagePatterns': ['has condition DisruptionTarget '],
    },
  ]


def _pod_template(job, options, num_pods) -> dict[str, Any]:
  selector = dict(pair.split('=', 1) for pair in options['node_selector'])
  resources = {}
  env: list[dict[str, Any]] = [{'name': 'PYTHONUNBUFFERED', 'value': '1'}]
  if job.slice:
    selector['cloud.google.com/gke-tpu-accelerator'] = (
      job.slice.chip.gke_accelerator
    )
    selector['cloud.google.com/gke-tpu-topology'] = job.slice.topology
    resources['google.com/tpu'] = str(job.slice.num_chips // num_pods)
  elif job.gpus:
    resources['nvidia.com/gpu'] = str(job.gpus.count)
  if num_pods > 1 and not job.slice:
    env += _coordinator(job, num_pods)
  env += [{'name': name, 'value': text} for name, text in job.env.items()]
  is_pod_slice = job.slice is not None and num_pods * job.num_slices > 1
  container = {
    'name': _CONTAINER,
    'image': options['image'],
    # Without a shell between, SIGTERM reaches the program, which then saves.
    'command': job.command(detect=is_pod_slice),
    'env': env,
    'ports': [
      # Of libtpu between hosts, of multislice, and of JAX's coordinator.
      {'containerPort': port}
      for port in (8471, 8080, job_lib.COORDINATOR_PORT)
    ],
  }
  if resources:
    container['resources'] = {'requests': resources, 'limits': resources}
  pod: dict[str, Any] = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': _GRACE_SECONDS,
    'containers': [container],
  }
  if job.spot:
    selector['cloud.google.com/gke-spot'] = 'true'
    pod['tolerations'] = [
      {
        'key': 'cloud.google.com/gke-spot',
        'operator': 'Equal',
        'value': 'true',
        'effect': 'NoSchedule',
      }
    ]
  if selector:
    pod['nodeSelector'] = selector
  if options['service_account']:
    pod['serviceAccountName'] = options['service_account']
  if options['priority_class']:
    pod['priorityClassName'] = options['priority_class']
  template: dict[str, Any] = {'spec': pod}
  if job.mounts:
    template['metadata'] = {'annotations': {'gke-gcsfuse/volumes': 'true'}}
    pod['volumes'], container['volumeMounts'] = _volumes(job.mounts)
  return template


def _coordinator(job, num_pods) -> list[dict[str, Any]]:
  """Variables that join the processes of nodes without TPUs."""
  index = 'batch.kubernetes.io/job-completion-index'
  # JobSet's headless service has the JobSet's name.
  host = f'{job.name}-{_GROUP}-0-0.{job.name}'
  address = f'{host}:{job_lib.COORDINATOR_PORT}'
  field = {'fieldRef': {'fieldPath': f"metadata.annotations['{index}']"}}
  return [
    {'name': 'JAX_COORDINATOR_ADDRESS', 'value': address},
    {'name': 'JAX_NUM_PROCESSES', 'value': str(num_pods)},
    {'name': 'JAX_PROCESS_ID', 'valueFrom': field},
  ]


def _volumes(mounts) -> tuple[list[dict], list[dict]]:
  """The volumes of Cloud Storage FUSE, and their mounts."""
  volumes, places = [], []
  for index, (path, bucket) in enumerate(mounts.items()):
    if not bucket.startswith('gs://'):
      raise errors.InputError(
        f'--mount={path}={bucket}: the engine jobset mounts gs:// buckets.'
      )
    name, _, folder = bucket.removeprefix('gs://').strip('/').partition('/')
    attributes = {'bucketName': name, 'mountOptions': 'implicit-dirs'}
    if folder:
      attributes['mountOptions'] += f',only-dir={folder}'
    driver = {'driver': 'gcsfuse.csi.storage.gke.io'}
    volumes.append(
      {
        'name': f'bucket-{index}',
        'csi': {**driver, 'volumeAttributes': attributes},
      }
    )
    places.append({'name': f'bucket-{index}', 'mountPath': path})
  return volumes, places


def submit_command(
  path: str, job: job_lib.Job, options: Mapping[str, Any]
) -> Sequence[str]:
  """The command that submits the file."""
  del job, options
  return ['kubectl', 'apply', f'--filename={path}']


def follow_up(
  job: job_lib.Job, options: Mapping[str, Any]
) -> Mapping[str, Sequence[str]]:
  """Commands for the submitted job."""
  space = [f'--namespace={options["namespace"]}'] * bool(options['namespace'])
  pods = f'--selector=jobset.sigs.k8s.io/jobset-name={job.name}'
  first = f'{pods},batch.kubernetes.io/job-completion-index=0'
  return {
    'logs': ['kubectl', 'logs', *space, '--follow', first],
    'status': ['kubectl', 'get', *space, 'jobset', job.name],
    'pods': ['kubectl', 'get', *space, 'pods', pods],
    'save and stop': ['kubectl', 'delete', *space, 'jobset', job.name],
  }
