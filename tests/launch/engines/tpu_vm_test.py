"""The script for TPU VMs with the real gcloud, and the cloud played."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from genre_flax.runtime import errors
from launch import job as job_lib
from launch.engines import tpu_vm
from tests.faults import trainings
from tests.support import tpu_api

OPTIONS = {
  'spot': False,
  'zone': 'us-west4-a',
  'project': None,
  'runtime_version': None,
  'tpu_name': None,
  'keep': False,
  'gcloud_arg': [],
}
needs_gcloud = pytest.mark.skipif(
  shutil.which('gcloud') is None, reason='the Google Cloud CLI is missing'
)


def make(*args, accelerator='v5litepod-16', options=(), **machines):
  job = job_lib.make(
    *('posters', 'train'),
    args=args or ['--config=a b.py', '--workdir=gs://b/r'],
    accelerator=job_lib.parse_accelerators(accelerator),
    **machines,
  )
  return tpu_vm.make(job, {**OPTIONS, **dict(options)})


def test_settings_of_the_job():
  options = {'gcloud_arg': ['--network=a b'], 'project': 'p', 'keep': True}
  text = make(options={**options, 'spot': True}, env=['A=b c'])
  assert (
    'create=(--accelerator-type=v5litepod-16'
    " --runtime-version=v2-alpha-tpuv5-lite --spot '--network=a b')"
  ) in text
  assert 'location=(--zone=us-west4-a --project=p)' in text
  assert '\nkeep=1\n' in text
  assert '--distributed' in text


def test_an_existing_vm_is_kept():
  text = make(options={'tpu_name': 'mine'})
  assert '\nname=mine\nexists=1\nkeep=1\n' in text


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'options': {'zone': None}}, '--zone is missing'),
    ({'accelerator': None}, '--accelerators is missing'),
    ({'accelerator': 'H100:8'}, '--accelerators is missing'),
    ({'accelerator': 'tpu7x-8'}, 'not part of the Cloud TPU API'),
  ],
)
def test_missing_values_are_errors(values, message):
  with pytest.raises(errors.InputError, match=message):
    make(**values)


@pytest.fixture
def cloud(tmp_path, request):
  """A cloud whose slices have as many hosts as the parameter."""
  made = tpu_api.Cloud(tmp_path / 'cloud', getattr(request, 'param', 1))
  yield made
  made.close()


class Script:
  """The script of a job in a process."""

  def __init__(self, cloud, text):
    path = cloud.root / 'posters.sh'
    path.write_text(text)
    self._log = cloud.root / f'script-{time.monotonic_ns()}.log'
    with self._log.open('wb') as log:
      self.process = subprocess.Popen(
        ['bash', str(path)],
        env=cloud.env,
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
      )

  @property
  def output(self):
    return self._log.read_text()

  def end(self, status):
    """Waits for an exit status; returns the output."""
    assert self.process.wait(300) == status, self.output
    return self.output

  def wait_for(self, text, seconds=120):
    end = time.monotonic() + seconds
    while text not in self.output:
      assert self.process.poll() is None, self.output
      assert time.monotonic() < end, self.output
      time.sleep(0.1)

  def signal(self, number):
    os.killpg(self.process.pid, number)


def tiny(workdir, data_dir, *overrides):
  return trainings.training(workdir, data_dir, *overrides)[1:]


SLOW = (
  '--config.num_train_steps=100000',
  '--config.checkpoint_every_steps=100000',
  '--config.eval_every_epochs=100000',
)


@needs_gcloud
@pytest.mark.slow
class TestScript:
  @pytest.mark.parametrize('cloud', [4], indirect=True)
  def test_four_workers_train_together(self, cloud, data_dir, tmp_path):
    text = make(*tiny(tmp_path / 'run', data_dir))
    output = Script(cloud, text).end(0)
    assert '4 host(s) x 1 device(s)' in output
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert metrics['num_examples']
    for number in range(4):
      worker = cloud.root / f'worker_{number}'
      assert (worker / 'job-posters' / 'log').exists()
      assert (
        worker / 'job-posters' / 'code' / 'genre_flax' / 'main.py'
      ).exists()
      installed = (worker / 'uv.log').read_text()
      requirements = 'job-posters/code/launch/requirements.txt'
      assert f'--require-hashes -r {requirements}' in installed
    assert cloud.queue == cloud.nodes == {}

  def test_bad_input_ends_with_its_status(self, cloud, tmp_path):
    wrong = ('--config=configs/quickstart.py', '--config.batchsize=1')
    text = make(*wrong, f'--workdir={tmp_path}', accelerator='v5litepod-4')
    output = Script(cloud, text).end(2)
    assert 'ended with status 2' in output
    assert 'batchsize' in output
    assert cloud.queue == {}

  def test_rerun_follows_and_a_preempted_slice_is_replaced(
    self, cloud, data_dir, tmp_path
  ):
    workdir = tmp_path / 'run'
    args = tiny(workdir, data_dir, *SLOW, '--config.log_every=1')
    text = make(*args, accelerator='v5litepod-4')
    script = Script(cloud, text)
    script.wait_for('step 3')
    # The laptop is closed: the program goes on.
    script.signal(signal.SIGKILL)
    script.process.wait()
    # A connection that fails proves nothing about the program.
    cloud.set_reachable(False)
    again = Script(cloud, text)
    again.wait_for('exited with return code')
    cloud.set_reachable(True)
    again.wait_for('step 3')
    assert 'Copying' not in again.output
    # The VM is lost with its program.
    for process in trainings.running(workdir):
      process.kill()
    cloud.preempt()
    assert 'was preempted (PREEMPTED)' in again.end(75)
    # The slice was deleted; the next one runs to the end.
    assert cloud.queue == {}
    shutil.rmtree(cloud.root / 'worker_0')
    short = tiny(workdir, data_dir)
    Script(cloud, make(*short, accelerator='v5litepod-4')).end(0)
    created = [m for m in cloud.requests if m[0] == 'POST' and 'queued' in m[1]]
    assert len(created) == 2

  def test_a_program_that_ended_meanwhile_is_reported(
    self, cloud, data_dir, tmp_path
  ):
    workdir = tmp_path / 'run'
    args = tiny(workdir, data_dir, '--config.log_every=1')
    text = make(*args, accelerator='v5litepod-4')
    script = Script(cloud, text)
    script.wait_for('step 1')
    script.signal(signal.SIGKILL)
    script.process.wait()
    trainings.wait_until_none(workdir)
    # A slice that cannot be described is not requested again.
    cloud.num_refused = 2
    output = Script(cloud, text).end(0)
    assert 'step 1' in output
    assert 'Copying' not in output
    created = [m for m in cloud.requests if m[0] == 'POST' and 'queued' in m[1]]
    assert len(created) == 1
    assert cloud.queue == {}

  def test_a_slice_that_cannot_be_reached_is_kept(
    self, cloud, data_dir, tmp_path
  ):
    workdir = tmp_path / 'run'
    args = tiny(workdir, data_dir, *SLOW, '--config.log_every=1')
    script = Script(cloud, make(*args, accelerator='v5litepod-4'))
    script.wait_for('step 3')
    cloud.set_reachable(False)
    for process in trainings.running(workdir):
      process.kill()
    assert 'costs money' in script.end(69)
    assert list(cloud.queue) == ['posters']

  def test_a_suspended_slice_of_an_earlier_run_is_replaced(
    self, cloud, tmp_path
  ):
    first = make('--no_such_flag', accelerator='v5litepod-4')
    keep = make(
      '--no_such_flag', accelerator='v5litepod-4', options={'keep': True}
    )
    Script(cloud, keep).end(2)
    assert list(cloud.queue) == ['posters']
    cloud.preempt()
    assert 'requesting another' in Script(cloud, first).end(2)
    assert cloud.queue == {}

  def test_ctrl_c_saves_and_deletes_the_slice(self, cloud, data_dir, tmp_path):
    workdir = tmp_path / 'run'
    args = tiny(workdir, data_dir, *SLOW, '--config.log_every=1')
    script = Script(cloud, make(*args, accelerator='v5litepod-4'))
    script.wait_for('step 3')
    script.signal(signal.SIGINT)
    output = script.end(143)
    assert 'The program saves and stops' in output
    trainings.wait_until_none(workdir)
    assert trainings.steps(workdir)
    assert cloud.queue == {}
