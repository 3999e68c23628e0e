"""Jobs on a real Slurm with two nodes, and the batch script."""

import csv
import re
import sys
import time

import pytest

from launch import job as job_lib
from launch.engines import slurm
from tests.faults import trainings
from tests.launch import run_test
from tests.support import paths
from tests.support import slurm_cluster

OPTIONS = {'sbatch_arg': [], 'cpus_per_task': 0, 'max_restarts': 20}
_REASON = slurm_cluster.reason_to_skip()
needs_slurm = pytest.mark.skipif(bool(_REASON), reason=str(_REASON))


def script(options=(), **machines):
  args = ['--config=a b.py', '--workdir=/w']
  job = job_lib.make('posters', 'train', args=args, **machines)
  return slurm.make(job, {**OPTIONS, **dict(options)})


def settings(text):
  return re.findall(r'^#SBATCH (.*)$', text, re.M)


def test_one_task_for_each_gpu():
  gpus = job_lib.parse_accelerators('h100:8')
  text = script({'cpus_per_task': 12}, accelerator=gpus, num_nodes=2)
  assert settings(text) == [
    *('--job-name=posters', '--nodes=2', '--ntasks-per-node=8'),
    *('--output=posters-%j.log', '--open-mode=append', '--requeue'),
    *('--signal=TERM@120', '--gpus-per-node=h100:8', '--cpus-per-task=12'),
  ]
  command = (
    f"{sys.executable} -m genre_flax.main --distributed '--config=a b.py'"
  )
  assert command in text


def test_one_task_without_gpus_joins_no_processes():
  text = script({'sbatch_arg': ['--time=1:00:00', '--account=me']})
  assert settings(text)[-2:] == ['--time=1:00:00', '--account=me']
  assert '--ntasks-per-node=1' in settings(text)
  assert '--distributed' not in text


def test_any_gpu_has_no_type():
  text = script(accelerator=job_lib.parse_accelerators('gpu:4'))
  assert '--gpus-per-node=4' in settings(text)


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
  with slurm_cluster.start(tmp_path_factory.mktemp('slurm')) as started:
    yield started


def training(workdir, data_dir, *overrides):
  """Flags of a training of 12 steps, with a checkpoint every 2."""
  flags = trainings.training(workdir, data_dir, *overrides)[1:]
  # Jobs run in the folder where they are submitted.
  return [f.replace('=configs/', f'={paths.ROOT}/configs/') for f in flags]


class Submitted:
  """A job that `launch.run` has submitted."""

  def __init__(self, cluster, folder, *flags, program=(), path=None):
    self.cluster, self.folder = cluster, folder
    if path:
      output = cluster.call('sbatch', path, cwd=folder)
    else:
      done = run_test.launch(
        *('--engine=slurm', '--name=posters', *flags, '--', *program),
        env=cluster.env,
        cwd=folder,
      )
      assert done.returncode == 0, done.stdout + done.stderr
      output = done.stdout
    self.id = re.search(r'Submitted batch job (\d+)', output)[1]

  def log(self):
    path = self.folder / f'posters-{self.id}.log'
    return path.read_text() if path.exists() else ''

  def end(self, *states):
    """Waits for the end of the job; returns its state and exit status."""
    finals = ('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT')
    found = self.cluster.wait(self.id, *finals)
    assert found['JobState'] in states, self.log()
    return found

  def wait_for_log(self, pattern, seconds=120):
    end = time.monotonic() + seconds
    while not re.search(pattern, self.log()):
      assert time.monotonic() < end, self.log()
      time.sleep(0.2)


ENDLESS = (
  *('--config.num_train_steps=100000', '--config.log_every=1'),
  '--config.checkpoint_every_steps=100000',
  '--config.eval_every_epochs=100000',
)
# Enough steps to be interrupted, on two nodes with one process each.
SLOW = ('--config.num_train_steps=40', '--config.log_every=1')


@pytest.fixture(scope='module')
def undisturbed(cluster, data_dir, tmp_path_factory):
  """The outcome of a training on two nodes."""
  folder = tmp_path_factory.mktemp('undisturbed')
  job = Submitted(
    *(cluster, folder, '--num_nodes=2'),
    program=training(folder / 'run', data_dir, *SLOW),
  )
  assert job.end('COMPLETED')['ExitCode'] == '0:0'
  assert 'Process 1 of 2 is connected.' in job.log()
  assert '2 host(s) x 1 device(s)' in job.log()
  return trainings.outcome(folder / 'run')


SWEEP = """
from configs.sweeps import default

GRID = {'optimizer.learning_rate': (1e-4, 2e-4, 3e-4, 4e-4)}

def get_config():
  config = default.get_config()
  config.base = 'configs/quickstart.py'
  config.flags = (
    '--config.image_height=32',
    '--config.image_width=24',
    '--config.num_train_steps=4',
  )
  return config
"""


@needs_slurm
@pytest.mark.slow
class TestCluster:
  def test_requeued_job_has_the_same_outcome(
    self, cluster, undisturbed, data_dir, tmp_path
  ):
    workdir = tmp_path / 'run'
    program = training(workdir, data_dir, *SLOW)
    job = Submitted(cluster, tmp_path, '--num_nodes=2', program=program)
    trainings.wait_for_checkpoint(workdir)
    cluster.call('scontrol', 'requeue', job.id)
    cluster.wait(job.id, 'PENDING')
    found = job.end('COMPLETED')
    assert found['Restarts'] == '1'
    assert 'Resuming after step' in job.log()
    trainings.assert_same_outcome(workdir, undisturbed)

  def test_killed_task_is_restarted_with_the_same_outcome(
    self, cluster, undisturbed, data_dir, tmp_path
  ):
    workdir = tmp_path / 'run'
    program = training(workdir, data_dir, *SLOW)
    job = Submitted(cluster, tmp_path, '--num_nodes=2', program=program)
    trainings.wait_for_checkpoint(workdir)
    tasks = [
      process
      for process in trainings.running(workdir)
      if process.cmdline()[1:3] == ['-m', 'genre_flax.main']
    ]
    assert len(tasks) == 2
    tasks[-1].kill()
    found = job.end('COMPLETED')
    assert found['Restarts'] == '1'
    assert 'ended with status 137' in job.log()
    trainings.assert_same_outcome(workdir, undisturbed)

  def test_bad_config_exits_once(self, cluster, data_dir, tmp_path):
    # `launch.run` refuses such a config, so it is put into the script.
    path = tmp_path / 'posters.sbatch'
    done = run_test.launch(
      *('--engine=slurm', '--name=posters', f'--output={path}', '--'),
      *training(tmp_path / 'run', data_dir),
    )
    assert done.returncode == 0, done.stderr
    path.write_text(path.read_text().replace('num_train_steps', 'num_stepz'))
    job = Submitted(cluster, tmp_path, path=path)
    found = job.end('FAILED')
    assert found['ExitCode'] == '2:0'
    assert found['Restarts'] == '0'
    assert 'num_stepz' in job.log()
    assert 'ended with status 2' in job.log()

  def test_permanent_status_of_one_task_is_the_status_of_the_job(
    self, cluster, data_dir, tmp_path
  ):
    path = tmp_path / 'posters.sbatch'
    done = run_test.launch(
      *('--engine=slurm', '--name=posters', '--num_nodes=2'),
      *(f'--output={path}', '--', *training(tmp_path / 'run', data_dir)),
    )
    assert done.returncode == 0, done.stderr
    (tmp_path / 'program.py').write_text(
      'import os, sys, time\n'
      'if os.environ["SLURM_PROCID"] == "1": sys.exit(65)\n'
      'time.sleep(100)\n'
    )
    text = path.read_text()
    path.write_text(text.replace('-m genre_flax.main', 'program.py'))
    job = Submitted(cluster, tmp_path, path=path)
    found = job.end('FAILED')
    assert found['ExitCode'] == '65:0'
    assert found['Restarts'] == '0'
    assert 'ended with status 65' in job.log()
    assert not list(tmp_path.glob('*.status'))

  def test_scancel_saves_and_stops(self, cluster, data_dir, tmp_path):
    workdir = tmp_path / 'run'
    program = training(workdir, data_dir, *ENDLESS)
    job = Submitted(cluster, tmp_path, '--num_nodes=2', program=program)
    job.wait_for_log(r'step 5\b')
    cluster.call('scancel', job.id)
    found = job.end('CANCELLED')
    assert found['Restarts'] == '0'
    trainings.wait_until_none(workdir)
    assert trainings.steps(workdir)

  def test_limit_of_time_saves(self, cluster, data_dir, tmp_path):
    workdir = tmp_path / 'run'
    # Slurm sends the signal up to a minute earlier.
    limit = ('--sbatch_arg=--time=3', '--sbatch_arg=--signal=TERM@90')
    job = Submitted(
      *(cluster, tmp_path, *limit, '--max_restarts=0'),
      program=training(workdir, data_dir, *ENDLESS),
    )
    found = job.end('FAILED')
    # The status is not final, so that without --max_restarts=0 it is requeued.
    assert found['ExitCode'] == '143:0'
    assert found['Restarts'] == '0'
    assert trainings.steps(workdir)

  def test_sweep_as_an_array(self, cluster, data_dir, tmp_path):
    (tmp_path / 'my_sweep.py').write_text(SWEEP)
    done = run_test.launch(
      *('--engine=slurm', '--name=sweep', '--program=sweep'),
      *('--sbatch_arg=--array=1-2', '--', f'--config={tmp_path}/my_sweep.py'),
      *(f'--sweep_dir={tmp_path}/sweep', '--'),
      '--config.dataset.synthetic_posters=0',
      f'--config.dataset.data_dir={data_dir}',
      env=cluster.env,
      cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    end = time.monotonic() + 300
    while cluster.call('squeue', '--noheader'):
      assert time.monotonic() < end, cluster.call('squeue')
      time.sleep(1.0)
    logs = [path.read_text() for path in tmp_path.glob('sweep-*.log')]
    assert len(logs) == 2
    assert all('ended with status 0' in log for log in logs), logs
    with (tmp_path / 'sweep' / 'sweep.csv').open() as file:
      rows = list(csv.DictReader(file))
    assert len(rows) == 4
    # Both workers trained trials, none of them twice.
    trained = [re.findall(r'[Tt]rial (\d+)', log) for log in logs]
    assert all(trained)
