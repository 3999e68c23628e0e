"""A kubectl that plays scenes of a JobSet and its pods."""

import io
import json
import os

import pytest

from genre_flax.runtime import errors
from launch.jobs import job as job_lib
from launch.jobs.backends import base
from launch.jobs.backends import gke
from tests.support import launch_fakes

OPTIONS = {
  'slice_type': 'v5litepod-16',
  'spot': True,
  'image': 'registry/genre_flax:1',
  'namespace': 'default',
  'kube_context': None,
  'service_account': 'trainer',
  'grace_minutes': 5.0,
}
HARD = '--config.note=it\'s "$HOME"\n'
ARGS = ('--config=configs/tpu_pod.py', '--workdir=gs://bucket/run', HARD)

KUBECTL = """
assert flags['namespace'] == 'default'
verb = words[0]
if verb == 'create':
  if read('refusal'):
    fail(read('refusal'))
  write('jobset', json.loads(pathlib.Path(flags['filename']).read_text()))
  write('attempt', read('attempt', -1) + 1)
  write('scene', 0)
elif verb == 'get' and words[1] == 'jobset' and 'selector' in flags:
  print(json.dumps({'items': read('others', [])}))
elif verb == 'get' and words[1] == 'jobset':
  if read('jobset') is None:
    fail('Error from server (NotFound): jobsets "posters" not found')
  scenes = read('scenes')[read('attempt')]
  scene = scenes[min(read('scene'), len(scenes) - 1)]
  write('scene', read('scene') + 1)
  write('pods', scene['pods'])
  conditions = [
    {'type': t, 'status': 'True'} for t in scene.get('conditions', [])
  ]
  print(json.dumps({**read('jobset'), 'status': {'conditions': conditions}}))
elif verb == 'get' and words[1] == 'pods':
  assert flags['selector'] == 'jobset.sigs.k8s.io/jobset-name=posters'
  print(json.dumps({'items': read('pods')}))
elif verb == 'logs':
  print('\\n'.join(f'{words[1]} line {i}' for i in range(read('scene'))))
elif verb == 'delete':
  (root / 'jobset').unlink(missing_ok=True)
else:
  fail(f'unknown: {args}')
"""


def pod(index, phase, code=None, **status):
  terminated = {'terminated': {'exitCode': code}} if code is not None else {}
  return {
    'metadata': {
      'name': f'posters-slice-0-{index}-abcde',
      'labels': {'batch.kubernetes.io/job-completion-index': str(index)},
    },
    'status': {
      'phase': phase,
      'containerStatuses': [{'state': terminated}],
      **status,
    },
  }


def pods(phase, *codes, **status):
  codes = codes or (None,) * 4
  return [pod(i, phase, code, **status) for i, code in enumerate(codes)]


WAITING = {'pods': pods('Pending')}
RUNNING = {'pods': pods('Running')}
DISRUPTED = {'type': 'DisruptionTarget', 'status': 'True', 'reason': 'Taint'}
DONE = {'pods': pods('Succeeded', 0, 0, 0, 0), 'conditions': ['Completed']}


def failed(*codes, **status):
  return {'pods': pods('Failed', *codes, **status), 'conditions': ['Failed']}


@pytest.fixture
def fakes(tmp_path, monkeypatch):
  fakes = launch_fakes.Fakes(tmp_path / 'cluster')
  fakes.add('kubectl', KUBECTL)
  monkeypatch.setenv('PATH', f'{fakes.bin}:{os.environ["PATH"]}')
  return fakes


def make(tmp_path, *, args=ARGS, binary='train', **options):
  job = job_lib.make('posters', binary, args=args)
  state_dir = tmp_path / 'state'
  return gke.Gke(job, {**OPTIONS, **options, 'state_dir': state_dir})


def run(fakes, tmp_path, *attempts):
  fakes.set('scenes', attempts)
  output = io.StringIO()
  status = launch_fakes.supervise(make(tmp_path), output)
  return status, output.getvalue()


def test_the_manifest_is_a_jobset_of_one_slice(tmp_path):
  manifest = make(tmp_path).manifest
  assert manifest['apiVersion'] == 'jobset.x-k8s.io/v1alpha2'
  assert manifest['kind'] == 'JobSet'
  assert manifest['metadata']['annotations'] == {
    'alpha.jobset.sigs.k8s.io/exclusive-topology': (
      'cloud.google.com/gke-nodepool'
    )
  }
  assert manifest['spec']['failurePolicy'] == {'maxRestarts': 0}
  (group,) = manifest['spec']['replicatedJobs']
  assert group['replicas'] == 1
  job = group['template']['spec']
  assert (job['completions'], job['parallelism']) == (4, 4)
  assert (job['completionMode'], job['backoffLimit']) == ('Indexed', 0)
  spec = job['template']['spec']
  assert spec['restartPolicy'] == 'Never'
  assert spec['terminationGracePeriodSeconds'] == 300
  assert spec['serviceAccountName'] == 'trainer'
  assert spec['nodeSelector'] == {
    'cloud.google.com/gke-tpu-accelerator': 'tpu-v5-lite-podslice',
    'cloud.google.com/gke-tpu-topology': '4x4',
    'cloud.google.com/gke-spot': 'true',
  }
  (container,) = spec['containers']
  assert container['image'] == 'registry/genre_flax:1'
  assert container['resources'] == {
    'requests': {'google.com/tpu': '4'},
    'limits': {'google.com/tpu': '4'},
  }
  assert container['command'] == [
    *('python', '-m', 'genre_flax.main', '--distributed'),
    *ARGS,
  ]


def test_one_host_has_all_its_chips_and_no_distributed_start(tmp_path):
  manifest = make(tmp_path, slice_type='v6e-8', spot=False).manifest
  job = manifest['spec']['replicatedJobs'][0]['template']['spec']
  assert (job['completions'], job['parallelism']) == (1, 1)
  spec = job['template']['spec']
  assert 'cloud.google.com/gke-spot' not in spec['nodeSelector']
  (container,) = spec['containers']
  assert container['resources']['limits'] == {'google.com/tpu': '8'}
  assert '--distributed' not in container['command']


def test_the_plan_holds_the_manifest_and_touches_nothing(fakes, tmp_path):
  backend = make(tmp_path)
  text = '\n'.join(map(str, backend.plan()))
  manifest = text.partition("<<'MANIFEST'\n")[2].partition('\nMANIFEST')[0]
  assert json.loads(manifest) == backend.manifest
  assert not fakes.calls()
  assert not (tmp_path / 'state').exists()


def test_from_the_manifest_to_the_end(fakes, tmp_path):
  status, output = run(fakes, tmp_path, [WAITING, RUNNING, RUNNING, DONE])
  assert status == 0, output
  assert fakes.get('attempt') == 0
  # Each line once, though kubectl gives all of them each time.
  for i in range(4):
    assert output.count(f'posters-slice-0-0-abcde line {i}\n') == 1
  assert 'posters-slice-0-1' not in output
  log = tmp_path / 'state' / 'posters' / 'process_3.log'
  assert log.read_text().startswith('posters-slice-0-3-abcde line 0')
  assert fakes.calls('delete')


@pytest.mark.parametrize(
  'end',
  [
    failed(137, None, None, None, conditions=[DISRUPTED]),
    failed(137, 137, 137, 137, reason='Preempted'),
    {'pods': [], 'conditions': ['Failed']},
    failed(143, 143, 143, 143),
  ],
)
def test_lost_nodes_are_a_preemption(fakes, tmp_path, end):
  status, output = run(fakes, tmp_path, [RUNNING, end], [RUNNING, DONE])
  assert status == 0, output
  assert 'was preempted' in output
  assert len(fakes.calls('create')) == 2


def test_a_crash_is_started_again_and_bad_input_is_not(fakes, tmp_path):
  crash, bad_input = failed(1, None, 134, 134), failed(134, 2, 0, 0)
  status, output = run(fakes, tmp_path, [RUNNING, crash], [bad_input])
  assert status == 2, output
  assert 'crashed with exit status 1' in output
  assert len(fakes.calls('create')) == 2


def test_waiting_tells_what_for(fakes, tmp_path):
  reason = '0/3 nodes are available: insufficient google.com/tpu'
  condition = {'type': 'PodScheduled', 'status': 'False', 'message': reason}
  scene = {'pods': pods('Pending', conditions=[condition])}
  _, output = run(fakes, tmp_path, [scene, RUNNING, DONE])
  assert reason in output


def test_a_refusal_is_told_in_kubectls_own_words(fakes, tmp_path):
  fakes.set('refusal', 'no matches for kind "JobSet"')
  with pytest.raises(errors.ResourceError, match='no matches for kind'):
    run(fakes, tmp_path, [DONE])


def test_a_jobset_that_runs_is_followed(fakes, tmp_path):
  fakes.set('scenes', [[RUNNING, RUNNING, DONE]])
  make(tmp_path).create()
  output = io.StringIO()
  assert launch_fakes.supervise(make(tmp_path), output) == 0
  assert 'following it' in output.getvalue()
  assert len(fakes.calls('create')) == 1


def test_other_flags_under_the_name_are_refused(fakes, tmp_path):
  fakes.set('scenes', [[RUNNING]])
  make(tmp_path).create()
  other = make(tmp_path, args=(*ARGS, '--config.seed=1'))
  with pytest.raises(errors.InputError, match='kubectl delete jobset posters'):
    launch_fakes.supervise(other, io.StringIO())


def test_another_writer_of_the_workdir_is_found(fakes, tmp_path):
  backend = make(tmp_path)
  other = {'metadata': {'name': 'other'}, 'status': {}}
  fakes.set('others', [other])
  assert backend.other_writer() == 'other'
  over = {'conditions': [{'type': 'Failed', 'status': 'True'}]}
  fakes.set('others', [{**other, 'status': over}])
  assert backend.other_writer() is None
  selector = f'--selector=genre-flax-writes={backend.job.folder_digest}'
  assert fakes.calls(selector)


def test_a_stop_is_a_deletion_that_is_not_waited_for(fakes, tmp_path):
  fakes.set('scenes', [[RUNNING]])
  backend = make(tmp_path)
  backend.create()
  jobset = fakes.get('jobset')
  jobset['metadata']['deletionTimestamp'] = '2026-01-01T00:00:00Z'
  backend.stop()
  assert '--wait=false' in fakes.calls('delete')[0]
  # While the pods save, they are followed.
  fakes.set('jobset', jobset)
  assert backend.observe().state is base.State.RUNNING


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'image': None}, '--image is missing'),
    ({'slice_type': None}, '--slice_type is missing'),
    ({'slice_type': 'v3-8'}, 'use --backend=tpu_vm'),
    ({'args': (ARGS[0], '--workdir=here')}, 'path of this machine'),
    ({'binary': 'prepare', 'args': ('--data_dir=gs://b',)}, 'prepare runs on'),
  ],
)
def test_what_cannot_be_is_named(tmp_path, options, message):
  with pytest.raises(errors.InputError, match=message):
    make(tmp_path, **options)
