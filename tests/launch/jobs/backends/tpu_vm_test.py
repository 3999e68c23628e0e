"""A gcloud that runs what it is given in one home folder for each worker."""

import io
import json
import os
import subprocess
import sys

import pytest

from genre_flax.runtime import errors
from launch.jobs import job as job_lib
from launch.jobs import wheel as wheel_lib
from launch.jobs.backends import base
from launch.jobs.backends import tpu_vm
from tests.support import launch_fakes

OPTIONS = {
  'slice_type': 'v5litepod-16',
  'spot': True,
  'zone': 'us-west4-a',
  'project': None,
  'runtime_version': None,
  'tpu_name': None,
}
HARD = '--config.model.tiny.features=(\'a b\', "$HOME")'
ARGS = ('--config=configs/tpu_pod.py', '--workdir=gs://bucket/run', HARD)

GCLOUD = """
import shutil, subprocess
num_hosts = 4
def home(i): return root / f'worker_{i}'
def make_homes():
  for i in range(num_hosts):
    shutil.rmtree(home(i), ignore_errors=True)
    home(i).mkdir()
def each_worker():
  worker = flags['worker']
  return range(num_hosts) if worker == 'all' else [int(worker)]
def check_up():
  if read('node', 'READY') != 'READY' or (read('request') or {}).get(
    'state', {'state': 'ACTIVE'})['state'] != 'ACTIVE':
    fail('ERROR: (gcloud.compute.tpus.tpu-vm.ssh) the TPU is not READY')
kind, action = words[2:4]
if 'zone' not in flags:
  fail('ERROR: argument --zone: Must be specified.')
if (kind, action) == ('queued-resources', 'create'):
  if read('refusal'):
    fail('ERROR: (gcloud) ' + read('refusal'))
  labels = dict(pair.split('=') for pair in flags['labels'].split(','))
  state = {'state': 'WAITING_FOR_RESOURCES'}
  node = {'labels': labels, 'acceleratorType': flags['accelerator-type']}
  make_homes()
  name = f'projects/p/locations/z/queuedResources/{words[4]}'
  tpu = {'nodeSpec': [{'node': node}]}
  write('request', {'name': name, 'state': state, 'tpu': tpu})
elif (kind, action) == ('queued-resources', 'describe'):
  if read('request') is None:
    fail('ERROR: (gcloud) NOT_FOUND: Resource was not found')
  print(json.dumps(read('request')))
  request = read('request')
  if request['state']['state'] == 'WAITING_FOR_RESOURCES':
    write('request', {**request, 'state': read('granted', {'state': 'ACTIVE'})})
elif (kind, action) == ('queued-resources', 'list'):
  print(json.dumps(read('others', [])))
elif (kind, action) == ('queued-resources', 'delete'):
  (root / 'request').unlink(missing_ok=True)
elif (kind, action) == ('tpu-vm', 'describe'):
  print(read('node', 'READY'))
elif (kind, action) == ('tpu-vm', 'scp'):
  check_up()
  *sources, target = words[4:]
  for i in each_worker():
    for source in sources:
      shutil.copy(source, home(i) / target.partition(':')[2])
elif (kind, action) == ('tpu-vm', 'ssh'):
  check_up()
  worst = 0
  for i in each_worker():
    if i in read('unreachable', []):
      worst = 255
      continue
    env = {**os.environ, 'HOME': str(home(i)), 'FAKE': str(root)}
    env['WORKER'] = str(i)
    env['PATH'] = f'{root}/worker_bin:' + os.environ['PATH']
    done = subprocess.run(
      ['bash', '-c', flags['command']], cwd=home(i), env=env,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = b'Warning: added to the list of known hosts.\\n' + done.stdout
    if 'output-directory' in flags:
      pathlib.Path(flags['output-directory'], f'{i}.log').write_bytes(text)
    worst = worst or done.returncode
  if read('unreachable_once'):
    write('unreachable', [])
  sys.exit(worst)
else:
  fail(f'unknown: {args}')
"""

# `python3` of a worker: pip and uv, which only note what they are asked for.
PYTHON3 = """#!/usr/bin/env bash
echo "$*" >>"$HOME/installed"
if [ "$2 $3" = 'uv venv' ]; then
  mkdir -p "${@: -1}/bin"
  ln -s {python} "${@: -1}/bin/python"
fi
"""

# The train binary of the wheel: it ends as `plays` says for this attempt.
MAIN = """
import json, os, pathlib, signal, sys, time
root, home = pathlib.Path(os.environ['FAKE']), pathlib.Path(os.environ['HOME'])
count = root / ('attempts_' + os.environ['WORKER'])
attempt = int(count.read_text()) if count.exists() else 0
count.write_text(str(attempt + 1))
print('argv', json.dumps(sys.argv[1:]), flush=True)
play = json.loads((root / 'plays').read_text())[attempt]
if play == 'preempted':
  request = json.loads((root / 'request').read_text())
  request['state'] = {'state': 'SUSPENDED'}
  (root / f'request_{os.getpid()}').write_text(json.dumps(request))
  os.replace(root / f'request_{os.getpid()}', root / 'request')
elif play == 'wait':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  time.sleep(60)
else:
  print('attempt', attempt, flush=True)
  sys.exit(play)
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
  fakes = launch_fakes.Fakes(tmp_path / 'cloud')
  fakes.add('gcloud', GCLOUD)
  monkeypatch.setenv('PATH', f'{fakes.bin}:{os.environ["PATH"]}')
  worker_bin = fakes.root / 'worker_bin'
  worker_bin.mkdir()
  (worker_bin / 'python3').write_text(
    PYTHON3.replace('{python}', sys.executable)
  )
  (worker_bin / 'python3').chmod(0o755)
  monkeypatch.setattr(
    wheel_lib, 'build', lambda f: launch_fakes.make_wheel(f, main=MAIN)
  )
  return fakes


def make(tmp_path, *, args=ARGS, binary='train', **options):
  job = job_lib.make('posters', binary, args=args, env=['A=b c'])
  state_dir = tmp_path / 'state'
  return tpu_vm.TpuVm(job, {**OPTIONS, **options, 'state_dir': state_dir})


def run(fakes, tmp_path, *plays, **options):
  fakes.set('plays', plays)
  output = io.StringIO()
  status = launch_fakes.supervise(make(tmp_path, **options), output)
  return status, output.getvalue()


def test_from_the_request_to_the_end_on_all_workers(fakes, tmp_path):
  status, output = run(fakes, tmp_path, 0)
  assert status == 0, output
  (create,) = fakes.calls('create')
  assert create[:6] == [
    *('gcloud', 'compute', 'tpus', 'queued-resources', 'create', 'posters')
  ]
  assert {
    '--node-id=posters',
    '--accelerator-type=v5litepod-16',
    '--runtime-version=v2-alpha-tpuv5-lite',
    '--zone=us-west4-a',
    '--spot',
  } <= set(create)
  # All arguments have come through ssh and two shells as they were.
  assert f'argv {json.dumps(["--distributed", *ARGS])}' in output
  for i in range(4):
    assert (fakes.root / f'attempts_{i}').read_text() == '1'
    log = (tmp_path / 'state' / 'posters' / f'process_{i}.log').read_text()
    assert 'attempt 0' in log
  (delete,) = fakes.calls('delete')
  assert {'--force', '--quiet'} <= set(delete)


@pytest.mark.slow
def test_a_preempted_slice_is_asked_for_again(fakes, tmp_path):
  status, output = run(fakes, tmp_path, 'preempted', 0)
  assert status == 0, output
  assert 'was preempted' in output
  assert len(fakes.calls('create')) == len(fakes.calls('delete')) == 2


@pytest.mark.slow
def test_a_crash_keeps_the_slice_and_sets_up_once(fakes, tmp_path):
  status, output = run(fakes, tmp_path, 1, 0)
  assert status == 0, output
  assert 'crashed with exit status 1' in output
  assert len(fakes.calls('create')) == len(fakes.calls('delete')) == 1
  installed = (fakes.root / 'worker_3' / 'installed').read_text().splitlines()
  assert len(installed) == 3  # uv, the environment, the requirements.
  assert installed[2].startswith('-m uv pip install')


def test_bad_input_is_told_once(fakes, tmp_path):
  status, output = run(fakes, tmp_path, 2)
  assert status == 2
  assert len(fakes.calls('create')) == 1


@pytest.mark.slow
def test_ssh_that_fails_on_one_worker_is_tried_again(fakes, tmp_path):
  backend = make(tmp_path)
  fakes.set('plays', ['wait'])
  backend.create()
  assert backend.observe().state is base.State.WAITING
  assert backend.observe().state is base.State.READY
  backend.start()
  assert backend.observe().state is base.State.RUNNING
  fakes.set('unreachable', [2])
  assert backend.observe().state is base.State.UNKNOWN
  fakes.set('unreachable', [])
  assert backend.observe().statuses == (None,) * 4
  # A worker whose machine went away takes the slice with it.
  fakes.set('node', 'PREEMPTED')
  assert backend.observe().state is base.State.PREEMPTED
  fakes.set('node', 'READY')
  backend.stop(kill=True)
  while backend.observe().state is not base.State.ENDED:
    pass
  assert backend.observe().statuses == (137,) * 4
  backend.clear()
  assert backend.observe().state is base.State.READY
  assert not fakes.calls('delete')


@pytest.mark.slow
def test_a_job_that_runs_is_followed_by_another_launcher(fakes, tmp_path):
  fakes.set('plays', ['wait'])
  first = make(tmp_path)
  first.create()
  first.observe()
  first.start()
  second = make(tmp_path)
  found = second.observe()
  assert found.state is base.State.RUNNING
  assert found.digest == second.job.digest
  assert 'argv' in found.log
  first.start()  # Twice is once.
  assert (fakes.root / 'attempts_0').read_text() == '1'
  first.stop()
  while second.observe().state is not base.State.ENDED:
    pass
  assert second.observe().statuses == (143,) * 4


@pytest.mark.parametrize('stage', ['create', 'granted'])
def test_a_refusal_is_told_in_gclouds_own_words(fakes, tmp_path, stage):
  words = "Quota 'TPUV5sPreemptibleLitepodPerProjectPerZone' exhausted"
  if stage == 'create':
    fakes.set('refusal', words)
  else:
    data = {'error': {'message': words}}
    fakes.set('granted', {'state': 'FAILED', 'failedData': data})
  with pytest.raises(errors.ResourceError, match=words):
    run(fakes, tmp_path, 0)


def test_another_writer_of_the_workdir_is_found(fakes, tmp_path):
  backend = make(tmp_path)
  backend.create()
  request = fakes.get('request')
  request['name'] = request['name'].replace('posters', 'other')
  fakes.set('others', [request])
  assert backend.other_writer() == 'other'
  request['state'] = {'state': 'SUSPENDED'}
  fakes.set('others', [request])
  assert backend.other_writer() is None


def test_a_slice_that_is_there_is_neither_made_nor_deleted(fakes, tmp_path):
  for i in range(4):
    (fakes.root / f'worker_{i}').mkdir()
  status, output = run(fakes, tmp_path, 0, tpu_name='mine')
  assert status == 0, output
  assert not fakes.calls('create')
  assert not fakes.calls('delete')
  assert fakes.calls('ssh', 'mine')


def test_prepare_runs_on_one_worker(fakes, tmp_path):
  args = ('--data_dir=gs://b/d', '--csv=gs://b/c', '--images=gs://b/i')
  backend = make(tmp_path, args=args, binary='prepare')
  text = '\n'.join(map(str, backend.plan()))
  assert '--worker=all' not in text
  assert '--distributed' not in text


def test_the_plan_names_the_wheel_and_touches_nothing(fakes, tmp_path):
  text = '\n'.join(map(str, make(tmp_path).plan()))
  assert not fakes.calls()
  assert not (tmp_path / 'state').exists()
  wheel = launch_fakes.make_wheel(tmp_path / 'w', main=MAIN)
  assert text.count(wheel.sha256) == 2
  # Pasted line by line, the plan's own commands start the job.
  fakes.set('plays', [0])
  (tmp_path / 'state' / 'posters').mkdir(parents=True)
  launch_fakes.make_wheel(tmp_path / 'state' / 'posters', main=MAIN)
  lines = [
    line
    for line in text.splitlines()
    if line.startswith('gcloud') and 'tail' not in line
  ]
  ends = [i for i, line in enumerate(lines) if ' stop ' in line]
  for line in lines[: ends[0]]:
    subprocess.run(['bash', '-c', line], check=True, capture_output=True)
  backend = make(tmp_path)
  while backend.observe().state is not base.State.ENDED:
    pass
  assert (fakes.root / 'attempts_3').read_text() == '1'


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'zone': None}, '--zone is missing'),
    ({'slice_type': None}, '--slice_type is missing'),
    ({'args': (ARGS[0], '--workdir=here')}, 'path of this machine'),
  ],
)
def test_what_is_missing_is_named(tmp_path, options, message):
  with pytest.raises(errors.InputError, match=message):
    make(tmp_path, **options)


def test_a_wheel_that_was_changed_on_the_way_is_refused(tmp_path):
  script = tmp_path / 'worker.sh'
  script.write_text(wheel_lib.WORKER_SCRIPT.read_text())
  (tmp_path / 'a.whl').write_bytes(b'damaged')
  done = subprocess.run(
    ['bash', str(script), 'setup', 'a.whl', '0' * 64],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert 'expected 0000' in done.stderr
