"""The launcher as a user runs it, and jobs on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.support import paths
from tests.support import programs

TINY = (
  '--config=configs/quickstart.py',
  '--config.dataset.synthetic_posters=0',
  '--config.image_height=32',
  '--config.image_width=24',
  '--config.model.tiny.features=(8, 16)',
  '--config.num_train_steps=2',
  '--config.bootstrap_samples=0',
  '--config.report=False',
  '--config.batch_size=16',
)
REMOTE = ('--', '--config=configs/tpu_pod.py', '--workdir=gs://bucket/run')
SYNTHETIC = '--config.dataset.synthetic_posters=2000'
POD = ('--name=a', '--accelerators=v5e:4x4')


def command(*args):
  return [sys.executable, '-m', 'launch.run', *map(str, args)]


def environment(**variables):
  return {**programs.environment(**variables), 'PYTHONPATH': str(paths.ROOT)}


def launch(*args, env=None, cwd=paths.ROOT):
  return subprocess.run(
    command(*args),
    cwd=cwd,
    env=environment(**(env or {})),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


@pytest.mark.slow
class TestLocal:
  def test_two_processes_train_together(self, data_dir, tmp_path):
    done = launch(
      *('--engine=local', '--name=tiny', '--num_processes=2'),
      *('--', *TINY, f'--workdir={tmp_path}/run'),
      f'--config.dataset.data_dir={data_dir}',
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '2 host(s) x 1 device(s)' in done.stdout
    assert re.search(r'^\[1\] .*Process 1 of 2 is connected', done.stdout, re.M)
    metrics = json.loads((tmp_path / 'run' / 'metrics.json').read_text())
    assert metrics['num_examples'] == 12

  @pytest.mark.parametrize('num_processes', [1, 2])
  @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
  def test_signals_save_and_stop(
    self, data_dir, tmp_path, num_processes, number
  ):
    process = subprocess.Popen(
      command(
        *('--engine=local', '--name=tiny', f'--num_processes={num_processes}'),
        *('--', *TINY, f'--workdir={tmp_path}/run'),
        f'--config.dataset.data_dir={data_dir}',
        '--config.num_train_steps=100000',
        '--config.log_every=1',
        '--config.eval_every_epochs=100000',
      ),
      cwd=paths.ROOT,
      env=environment(),
      stdout=subprocess.PIPE,
      text=True,
    )
    for line in process.stdout:
      if 'step 3' in line:
        break
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    [checkpoint] = (tmp_path / 'run').glob('checkpoints/*')
    assert int(checkpoint.name) >= 3


class Fake:
  """Runs the engine with a program of the test for genre_flax.main."""

  def __init__(self, folder):
    self.folder = folder
    (folder / 'genre_flax').mkdir()

  def run(self, program, *, num_processes=2, **options):
    (self.folder / 'program.py').write_text(program)
    code = (
      'import sys; from launch import job; from launch.engines import local;'
      'job.PROGRAMS["train"] = "program";'
      f'j = job.make("a", "train", args=["--a=b \'c"], env=["X=y z"],'
      f' num_nodes={num_processes});'
      'sys.exit(local.run(j, sys.stdout.buffer))'
    )
    return subprocess.run(
      [sys.executable, '-c', code],
      cwd=self.folder,
      env={**os.environ, 'PYTHONPATH': f'{self.folder}:{paths.ROOT}'},
      capture_output=True,
      text=True,
      timeout=60,
      check=False,
      **options,
    )


@pytest.fixture
def fake(tmp_path):
  return Fake(tmp_path)


def test_processes_get_arguments_and_variables(fake):
  done = fake.run(
    'import os, sys; print(sys.argv[1:], os.environ["X"],'
    ' os.environ["JAX_PROCESS_ID"], os.environ["JAX_NUM_PROCESSES"])'
  )
  assert done.returncode == 0, done.stderr
  assert sorted(done.stdout.splitlines()) == [
    f'[{index}] ["--a=b \'c"] y z {index} 2' for index in range(2)
  ]


def test_one_process_is_not_distributed(fake):
  done = fake.run(
    'import os; print("JAX_PROCESS_ID" in os.environ)', num_processes=1
  )
  assert done.stdout == '[0] False\n'


@pytest.mark.slow
def test_the_first_failure_ends_all(fake):
  started = time.monotonic()
  done = fake.run(
    'import os, sys, time\n'
    'if os.environ["JAX_PROCESS_ID"] == "1": sys.exit(65)\n'
    'time.sleep(50)'
  )
  assert done.returncode == 65
  assert time.monotonic() - started < 30


def test_a_killed_process_has_the_status_of_shells(fake):
  done = fake.run('import os; os.kill(os.getpid(), 9)', num_processes=1)
  assert done.returncode == 137


@pytest.mark.parametrize(
  ('flags', 'file_text', 'submit'),
  [
    (
      ('--engine=skypilot', *POD, '--spot'),
      'accelerators: tpu-v5litepod-16',
      'sky jobs launch --detach-run --yes a.sky.yaml',
    ),
    (
      ('--engine=jobset', *POD, '--image=i'),
      'cloud.google.com/gke-tpu-topology: "4x4"',
      'kubectl create --filename a.jobset.yaml',
    ),
    (
      ('--engine=tpu_vm', *POD, '--zone=z'),
      '--accelerator-type=v5litepod-16',
      'bash a.tpu_vm.sh',
    ),
  ],
)
def test_a_dry_run_prints_the_file_and_the_command(
  flags, file_text, submit, tmp_path
):
  done = launch(*flags, '--dry_run', *REMOTE, SYNTHETIC)
  assert done.returncode == 0, done.stderr
  assert 'Slice: v5litepod-16 (v5e:4x4).' in done.stderr
  assert file_text in done.stdout
  assert done.stdout.splitlines()[-1] == f'$ {submit}'
  path = tmp_path / 'file'
  written = launch(*flags, f'--output={path}', *REMOTE, SYNTHETIC)
  assert written.returncode == 0, written.stderr
  assert path.read_text().rstrip() in done.stdout


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (['--engine=local', '--name=a'], "flags of the program 'train' are missin"),
    (['--engine=local', *REMOTE], '--name'),
    (['--name=a', *REMOTE], '--engine'),
    (['--engine=cloud', '--name=a', *REMOTE], 'should be one of'),
    (['--engine=local', '--name=a', '--no_such=1', *REMOTE], 'Pass --help'),
    (
      ['--engine=local', '--name=a', 'b', *REMOTE],
      "Unexpected arguments: ['b'",
    ),
    (
      ['--engine=local', '--name=a', '--zone=z', *REMOTE],
      '--zone is a flag of',
    ),
    (['--engine=slurm', *POD, *REMOTE], 'slurm has no TPU slices'),
    (['--engine=slurm', '--name=a', '--spot', *REMOTE], '--spot is a flag of'),
    (
      ['--engine=skypilot', '--name=a', '--max_restarts=3', *REMOTE],
      '--max_restarts is a flag of --engine=slurm, jobset',
    ),
    (['--engine=jobset', *POD, *REMOTE], '--image is missing'),
    (
      ['--engine=skypilot', *POD, '--num_nodes=2', *REMOTE],
      'a slice has its own hosts',
    ),
    (
      ['--engine=skypilot', *POD, *REMOTE, SYNTHETIC, '--config.batch_size=17'],
      'is not a multiple of 16 device(s)',
    ),
    (
      ['--engine=local', '--name=a', '--program=prepare', '--num_processes=2']
      + ['--', '--data_dir=d'],
      '--program=prepare runs on one machine',
    ),
  ],
)
def test_wrong_flags_are_a_message(args, message):
  done = launch(*args)
  assert done.returncode == 2
  assert message in done.stderr
  assert 'Traceback' not in done.stderr
  assert done.stdout == ''


def test_ctrl_c_reaches_the_engines_program(tmp_path):
  bash = tmp_path / 'bash'
  bash.write_text(
    '#!/bin/sh\ntrap "sleep 1; echo saved; exit 42" INT\n'
    'echo started\nwhile :; do sleep 0.1; done\n'
  )
  bash.chmod(0o755)
  (tmp_path / 'configs').symlink_to(paths.ROOT / 'configs')
  process = subprocess.Popen(
    [*command('--engine=tpu_vm', *POD, '--zone=z', *REMOTE, SYNTHETIC)],
    cwd=tmp_path,
    env=environment(PATH=f'{tmp_path}:{os.environ["PATH"]}'),
    stdout=subprocess.PIPE,
    text=True,
  )
  for line in process.stdout:
    if line == 'started\n':
      break
  process.send_signal(signal.SIGINT)
  output, _ = process.communicate(timeout=60)
  assert (process.returncode, output) == (42, 'saved\n')


def test_a_missing_tool_is_named(tmp_path):
  done = launch(
    *('--engine=jobset', *POD, '--image=i', *REMOTE, SYNTHETIC),
    env={'PATH': str(tmp_path)},
  )
  assert done.returncode == 69
  assert 'error: kubectl is not installed here' in done.stderr
