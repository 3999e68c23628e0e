"""Kubernetes: the manifest of a JobSet, with the node labels of GKE."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

from genre_flax.runtime import errors
from launch import job as job_lib

OPTIONS = (
  *('num_nodes', 'num_slices', 'max_restarts', 'spot', 'mount', 'image'),
  *('namespace', 'queue', 'priority_class', 'service_account', 'node_selector'),
)
SUFFIX = '.jobset.yaml'
SUBMIT = ('kubectl', 'create', '--filename')
SHARES_FILES = False

_TEMPLATE = pathlib.Path(__file__).with_name('jobset.yaml')
# Labels of GKE for nodes with GPUs.
_GPUS = {
  'T4': 'nvidia-tesla-t4',
  'V100': 'nvidia-tesla-v100',
  'L4': 'nvidia-l4',
  'A100': 'nvidia-tesla-a100',
  'A100-80GB': 'nvidia-a100-80gb',
  'H100': 'nvidia-h100-80gb',
  'H200': 'nvidia-h200-141gb',
  'B200': 'nvidia-b200',
}


def make(job: job_lib.Job, options: Mapping[str, Any]) -> str:
  """The JobSet: one Job for each slice, one pod for each of its hosts."""
  if not options['image']:
    raise errors.InputError(
      '--image is missing: the container image built with launch/Dockerfile.'
    )
  selector = job_lib.pairs(
    'node_selector', options['node_selector'], r'[^=]+=.*', 'KEY=VALUE'
  )
  if options['spot']:
    selector['cloud.google.com/gke-spot'] = 'true'
  num_pods, resources = job.num_nodes, {}
  if job.slice:
    chip = job.slice.chip
    if not chip.gke_accelerator:
      raise errors.InputError(f'GKE has no slices of {chip.name}.')
    num_pods = job.slice.num_hosts
    selector['cloud.google.com/gke-tpu-accelerator'] = chip.gke_accelerator
    selector['cloud.google.com/gke-tpu-topology'] = job.slice.topology
    resources['google.com/tpu'] = str(job.slice.num_chips // num_pods)
  elif job.gpus:
    resources['nvidia.com/gpu'] = str(job.gpus.count)
    if job.gpus.type != 'gpu':
      label = _GPUS.get(job.gpus.type.upper())
      if not label:
        raise errors.InputError(
          f'--accelerators: GKE has no label of {job.gpus.type!r} here: expect'
          f' one of {list(_GPUS)}, or gpu:COUNT with'
          ' --node_selector=cloud.google.com/gke-accelerator=LABEL.'
        )
      selector['cloud.google.com/gke-accelerator'] = label
  is_pod_slice = job.slice is not None and num_pods * job.num_slices > 1
  return job_lib.render(
    _TEMPLATE,
    job,
    {
      **options,
      'num_pods': num_pods,
      'permanent_statuses': list(errors.PERMANENT_STATUSES),
      'selector': selector,
      'resources': resources,
      'command': job.command(detect=is_pod_slice),
      'mounts': [_mount(*mount) for mount in job.mounts.items()],
    },
  )


def _mount(path: str, bucket: str) -> dict[str, str]:
  """A bucket, mounted by Cloud Storage FUSE."""
  if not bucket.startswith('gs://'):
    raise errors.InputError(
      f'--mount={path}={bucket}: the engine jobset mounts gs:// buckets.'
    )
  name, _, folder = bucket.removeprefix('gs://').strip('/').partition('/')
  options = f'implicit-dirs,only-dir={folder}' if folder else 'implicit-dirs'
  return {'path': path, 'bucket': name, 'options': options}


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
