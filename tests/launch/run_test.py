"""The program as a user runs it; `local` for real."""

import functools
import json
import os
import signal
import subprocess
import time

import pytest

from tests.support import paths
from tests.support import programs

pytestmark = pytest.mark.slow

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


command = functools.partial(programs.command, 'run', package='launch')
launch = functools.partial(programs.run, 'run', package='launch')


def test_two_processes_train_on_this_machine(data_dir, tmp_path):
  workdir = tmp_path / 'run'
  args = [
    *('--name=tiny', '--num_processes=2', f'--state_dir={tmp_path}/state'),
    *('--', *TINY, f'--workdir={workdir}'),
    f'--config.dataset.data_dir={data_dir}',
  ]
  done = launch(*args)
  assert done.returncode == 0, done.stdout + done.stderr
  assert '= 2 host(s) x 1 device(s) x 8' in done.stdout
  assert 'launch: tiny ended well' in done.stdout
  assert (
    json.loads((workdir / 'metrics.json').read_text())['num_examples'] == 12
  )
  log = (tmp_path / 'state' / 'tiny' / '1' / 'log').read_text()
  assert 'Process 1 of 2 is connected.' in log


def test_bad_input_of_the_binary_ends_it_with_its_message(tmp_path):
  done = launch(
    *('--name=bad', f'--state_dir={tmp_path}/state', '--'),
    *('--config=configs/quickstart.py', f'--workdir={tmp_path}/run'),
    '--config.no_such_key=1',
  )
  assert done.returncode == 2
  assert 'The config has no key' in done.stdout
  assert 'refused its input with exit status 2' in done.stdout
  assert 'Restart' not in done.stdout


# A package that stands in for genre_flax, which it says nothing of.
MAIN = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(os.environ['FAKE'])
count = folder / 'attempts'
attempt = int(count.read_text()) if count.exists() else 0
count.write_text(str(attempt + 1))
print('argv', json.dumps(sys.argv[1:]))
play = json.loads((folder / 'plays').read_text())[attempt]
if play == 'wait':
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
  (folder / 'waits').touch()
  time.sleep(100)
sys.exit(play)
"""


@pytest.fixture
def fake(tmp_path):
  """Runs the launcher on a binary that does as `plays` says."""
  package = tmp_path / 'genre_flax'
  package.mkdir()
  (package / '__init__.py').touch()
  (package / 'main.py').write_text(MAIN)

  class Fake:
    folder = tmp_path
    env = {
      **os.environ,
      'FAKE': str(tmp_path),
      'PYTHONPATH': f'{tmp_path}:{paths.ROOT}',
    }

    def command(self, *args, name='fake', workdir='run'):
      return command(
        *(f'--name={name}', f'--state_dir={tmp_path}/state', *args, '--'),
        *('--config=c.py', f'--workdir={tmp_path}/{workdir}', 'a "$b" \'c'),
      )

    def start(self, *args, plays, **kwargs):
      (tmp_path / 'plays').write_text(json.dumps(plays))
      return subprocess.Popen(
        self.command(*args, **kwargs),
        cwd=tmp_path,
        env=self.env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
      )

    def until(self, name):
      end = time.monotonic() + 60
      while not (tmp_path / name).exists() and time.monotonic() < end:
        time.sleep(0.02)
      assert (tmp_path / name).exists()

  return Fake()


@pytest.mark.parametrize('status', [0, 7])
def test_arguments_and_the_status_are_passed_on(fake, status):
  process = fake.start('--max_crashes=0', plays=[status])
  output = process.communicate(timeout=60)[0]
  assert process.returncode == status, output
  argv = ['--config=c.py', f'--workdir={fake.folder}/run', 'a "$b" \'c']
  assert f'argv {json.dumps(argv)}' in output
  assert ('crashed with exit status 7' in output) == (status == 7)


@pytest.mark.parametrize(
  ('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_stop_lets_the_binary_save(fake, number, status):
  process = fake.start(plays=['wait'])
  fake.until('waits')
  process.send_signal(number)
  output = process.communicate(timeout=60)[0]
  assert process.returncode == status, output
  assert (
    fake.folder / 'state' / 'fake' / '0' / 'status'
  ).read_text() == '143\n'
  assert 'is stopped' in output


def test_a_second_launcher_and_a_second_writer_are_refused(fake):
  process = fake.start(plays=['wait'])
  fake.until('waits')
  again = subprocess.run(
    fake.command(), env=fake.env, capture_output=True, text=True
  )
  assert again.returncode == 73
  assert f'(process {process.pid}) follows fake already' in again.stderr
  other = subprocess.run(
    fake.command(name='other'), env=fake.env, capture_output=True, text=True
  )
  assert other.returncode == 73
  assert 'two writers would damage it' in other.stderr
  # The launcher dies, and what it started does not.
  process.kill()
  process.communicate()
  other = subprocess.run(
    fake.command(name='other'), env=fake.env, capture_output=True, text=True
  )
  assert other.returncode == 2
  assert 'The job fake writes' in other.stderr
  follower = fake.start(plays=['wait'])
  line = next(line for line in follower.stdout if 'following' in line)
  assert 'fake is there already' in line
  follower.send_signal(signal.SIGINT)
  follower.communicate(timeout=60)
  assert follower.returncode == 130
  assert (fake.folder / 'attempts').read_text() == '1'


def test_the_dry_run_prints_commands_that_work_and_runs_none(fake):
  args = fake.command('--dry_run')
  plan = subprocess.run(args, env=fake.env, capture_output=True, text=True)
  assert plan.returncode == 0, plan.stderr
  assert not (fake.folder / 'state').exists()
  start = plan.stdout.partition('# Start process 0.\n')[2].splitlines()[0]
  (fake.folder / 'plays').write_text('[0]')
  subprocess.run(
    ['bash', '-c', start], cwd=fake.folder, env=fake.env, check=True
  )
  fake.until('state/fake/0/status')
  log = (fake.folder / 'state' / 'fake' / '0' / 'log').read_text()
  assert json.dumps('a "$b" \'c') in log


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (['--name=a', '--config=x', '--workdir=w'], 'go after a lone --'),
    (['--name=a', '--'], 'nothing to run'),
    (['--', '--config=x', '--workdir=w'], '--name'),
    (['--name=a', '--zone=z', *REMOTE], '--zone is an option of --backend=tpu'),
    (['--name=a', '--backend=cloud', *REMOTE], 'should be one of'),
    (['--name=a', '--no_such=1', *REMOTE], 'Pass --help'),
    (['--name=a', '--backend=gke', *REMOTE], '--image is missing'),
    (['--name=a', '--max_restarts=-1', *REMOTE], 'max_restarts'),
    (
      [
        *('--name=a', '--binary=prepare', '--num_processes=2'),
        '--',
        '--data_dir=d',
      ],
      'prepare runs as one process',
    ),
  ],
)
def test_wrong_flags_are_a_message(args, message):
  done = launch(*args)
  assert done.returncode == 2
  assert message in done.stderr
  assert 'Traceback' not in done.stderr
  assert done.stdout == ''


def test_a_missing_tool_says_what_to_install(tmp_path):
  done = launch(
    *('--name=a', '--backend=gke', '--image=i', '--slice_type=v6e-8'),
    *(f'--state_dir={tmp_path}', *REMOTE),
    PATH=tmp_path,
  )
  assert done.returncode == 69
  assert 'error: kubectl is not on the PATH' in done.stderr
