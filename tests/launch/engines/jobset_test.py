"""Manifests of JobSets: Kubernetes' schema, and the nodes that they select."""

import importlib.util

import pytest
import yaml

from genre_flax.runtime import errors
from launch import job as job_lib
from launch.engines import jobset

OPTIONS = {
  'image': 'registry/genre_flax:1',
  'namespace': None,
  'queue': None,
  'priority_class': None,
  'service_account': None,
  'node_selector': [],
  'max_restarts': 20,
  'spot': False,
  'mount': [],
  'num_nodes': 1,
}
needs_schemas = pytest.mark.skipif(
  importlib.util.find_spec('kubernetes_validate') is None,
  reason='pip install kubernetes-validate',
)


def make(accelerator, *, options=(), **machines):
  job = job_lib.make(
    *('posters', 'train'),
    args=['--config=configs/tpu_pod.py', '--workdir=gs://b/r'],
    accelerator=job_lib.parse_accelerators(accelerator),
    **machines,
  )
  values = {**OPTIONS, 'num_slices': job.num_slices, **dict(options)}
  return yaml.safe_load(jobset.make(job, values))


def job_of(manifest):
  """The specification of the only Job."""
  [group] = manifest['spec']['replicatedJobs']
  return group['template']['spec']


def pod_of(manifest):
  return job_of(manifest)['template']['spec']


def container_of(manifest):
  [container] = pod_of(manifest)['containers']
  return container


# Machines of GKE by its documentation: slices of several hosts have machines of
# four chips; eight v5e or v6e are one machine, as in the Cloud TPU API.
@pytest.mark.parametrize(
  ('slice_name', 'accelerator', 'topology', 'pods', 'chips'),
  [
    ('v4-8', 'tpu-v4-podslice', '2x2x1', 1, 4),
    ('v4-32', 'tpu-v4-podslice', '2x2x4', 4, 4),
    ('v5litepod-1', 'tpu-v5-lite-podslice', '1x1', 1, 1),
    ('v5litepod-4', 'tpu-v5-lite-podslice', '2x2', 1, 4),
    ('v5litepod-8', 'tpu-v5-lite-podslice', '2x4', 1, 8),
    ('v5e:4x4', 'tpu-v5-lite-podslice', '4x4', 4, 4),
    ('v5p-16', 'tpu-v5p-slice', '2x2x2', 2, 4),
    ('v6e-8', 'tpu-v6e-slice', '2x4', 1, 8),
    ('v6e:8x8', 'tpu-v6e-slice', '8x8', 16, 4),
    ('tpu7x:2x2x1', 'tpu7x', '2x2x1', 1, 4),
    ('tpu7x-128', 'tpu7x', '4x4x4', 16, 4),
  ],
)
def test_nodes_of_a_slice(slice_name, accelerator, topology, pods, chips):
  manifest = make(slice_name)
  assert pod_of(manifest)['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': accelerator,
    'cloud.google.com/gke-tpu-topology': topology,
  }
  assert job_of(manifest)['completions'] == pods
  assert job_of(manifest)['parallelism'] == pods
  resources = container_of(manifest)['resources']
  assert resources['limits'] == {'google.com/tpu': str(chips)}
  assert resources['requests'] == resources['limits']
  annotations = manifest['metadata'].get('annotations', {})
  is_exclusive = 'alpha.jobset.sigs.k8s.io/exclusive-topology' in annotations
  assert is_exclusive == (pods > 1)
  assert ('--distributed' in container_of(manifest)['command']) == (pods > 1)


def test_permanent_statuses_fail_the_jobset_and_disruptions_do_not_count():
  manifest = make('v5e:4x4', options={'max_restarts': 7})
  policy = manifest['spec']['failurePolicy']
  assert policy['maxRestarts'] == 7
  assert [rule['action'] for rule in policy['rules']] == [
    *('FailJobSet', 'RestartJobSetAndIgnoreMaxRestarts'),
  ]
  on_status, on_disruption = job_of(manifest)['podFailurePolicy']['rules']
  assert on_status['onExitCodes']['values'] == [2, 65]
  name = container_of(manifest)['name']
  assert on_status['onExitCodes']['containerName'] == name
  [condition] = on_disruption['onPodConditions']
  assert condition == {'type': 'DisruptionTarget', 'status': 'True'}


# As the controller of Jobs of Kubernetes 1.37 writes them.
@pytest.mark.parametrize(
  ('message', 'rule'),
  [
    (
      'Container genre-flax for pod a/b failed with exit code 2 matching'
      ' FailJob rule at index 0',
      'permanentStatus',
    ),
    (
      'Container genre-flax for pod a/b failed with exit code 65 matching'
      ' FailJob rule at index 0',
      'permanentStatus',
    ),
    (
      'Pod a/b has condition DisruptionTarget matching FailJob rule at index 1',
      'disruption',
    ),
    ('Job has reached the specified backoff limit', None),
    (
      'Container genre-flax for pod a/b failed with exit code 265 matching',
      None,
    ),
  ],
)
def test_messages_of_failed_jobs_match_the_rules(message, rule):
  import re

  rules = make('v5e:4x4')['spec']['failurePolicy']['rules']
  matches = [
    r['name']
    for r in rules
    if any(re.search(p, message) for p in r['onJobFailureMessagePatterns'])
  ]
  assert matches == ([rule] if rule else [])


def test_options_of_clusters():
  options = {
    'namespace': 'research',
    'queue': 'tpus',
    'priority_class': 'high',
    'service_account': 'trainer',
    'node_selector': ['pool=a'],
    'spot': True,
  }
  manifest = make('v6e-4', options=options, num_slices=2)
  assert manifest['metadata']['namespace'] == 'research'
  labels = manifest['metadata']['labels']
  assert labels == {'kueue.x-k8s.io/queue-name': 'tpus'}
  pod = pod_of(manifest)
  assert pod['priorityClassName'] == 'high'
  assert pod['serviceAccountName'] == 'trainer'
  assert pod['nodeSelector']['pool'] == 'a'
  assert pod['nodeSelector']['cloud.google.com/gke-spot'] == 'true'
  assert pod['tolerations'][0]['key'] == 'cloud.google.com/gke-spot'
  assert manifest['spec']['replicatedJobs'][0]['replicas'] == 2
  assert '--distributed' in container_of(manifest)['command']


def test_nodes_with_gpus_join_by_the_service_of_the_jobset():
  manifest = make('H100:8', num_nodes=2)
  limits = container_of(manifest)['resources']['limits']
  assert limits == {'nvidia.com/gpu': '8'}
  assert pod_of(manifest)['nodeSelector'] == {
    'cloud.google.com/gke-accelerator': 'nvidia-h100-80gb'
  }
  assert 'nodeSelector' not in pod_of(make('gpu:8'))
  env = {e['name']: e for e in container_of(manifest)['env']}
  address = env['JAX_COORDINATOR_ADDRESS']['value']
  assert address == 'posters-workers-0-0.posters:8476'
  assert env['JAX_NUM_PROCESSES']['value'] == '2'
  assert 'job-completion-index' in str(env['JAX_PROCESS_ID']['valueFrom'])


def test_buckets_are_volumes():
  manifest = make('v5e:4x4', mounts=['/data=gs://bucket/a/b'])
  template = job_of(manifest)['template']
  assert template['metadata']['annotations'] == {'gke-gcsfuse/volumes': 'true'}
  [volume] = pod_of(manifest)['volumes']
  attributes = volume['csi']['volumeAttributes']
  assert attributes['bucketName'] == 'bucket'
  assert attributes['mountOptions'] == 'implicit-dirs,only-dir=a/b'
  [mount] = container_of(manifest)['volumeMounts']
  assert mount == {'name': volume['name'], 'mountPath': '/data'}


@pytest.mark.parametrize(
  ('accelerator', 'options', 'message'),
  [
    ('v5e:4x4', {'image': None}, '--image is missing'),
    ('v3-8', {}, 'GKE has no slices of v3'),
    ('H800:8', {}, "GKE has no label of 'H800'"),
  ],
)
def test_missing_values_are_errors(accelerator, options, message):
  with pytest.raises(errors.InputError, match=message):
    make(accelerator, options=options)


@needs_schemas
@pytest.mark.parametrize(
  ('accelerator', 'machines'),
  [
    ('v5e:4x4', {'mounts': ['/data=gs://bucket']}),
    ('tpu7x-8', {'num_slices': 2, 'env': ['A=b']}),
    ('H100:8', {'num_nodes': 2}),
    (None, {}),
  ],
)
def test_jobs_satisfy_the_schema_of_kubernetes(accelerator, machines):
  import kubernetes_validate

  options = {'service_account': 'a', 'priority_class': 'b', 'spot': True}
  manifest = make(accelerator, options=options, **machines)
  job = {
    'apiVersion': 'batch/v1',
    'kind': 'Job',
    'metadata': {'name': 'posters'},
    'spec': job_of(manifest),
  }
  kubernetes_validate.validate(job, '1.33', strict=True)
