"""Tests of a worker with short scripts in place of trainings."""

import os
import signal
import subprocess
import sys
import threading
import time

from etils import epath
import pytest

from genre_flax.runtime import errors
from launch import processes as processes_lib
from launch.sweeps import results
from launch.sweeps import studies
from launch.sweeps import worker as worker_lib
from tests.launch.sweeps import studies_test
from tests.launch.sweeps import sweep_file_test

pytestmark = studies_test.pytestmark
State = studies.State
SPACE = "GRID = {'image_size': (96, 128, 160, 192, 224, 256, 288)}"

# A training of 4 evaluations; the score is a hundredth of the image size.
SCRIPT = """
import json, pathlib, signal, sys, time
flags = dict(word[2:].split('=', 1) for word in sys.argv[1:])
workdir = pathlib.Path(flags['workdir'])
size, seed = int(flags['config.image_size']), int(flags['config.seed'])
workdir.mkdir(parents=True, exist_ok=True)
(workdir / 'starts.json').write_text('[{"num_train_steps": 40}]')
def evaluate(step, score=size / 1000 + seed):
  with (workdir / 'metrics.jsonl').open('a') as file:
    line = {'step': step, 'split': 'validation', 'peak_memory_gb': 1.5}
    line['mean_average_precision'] = score - (40 - step) / 10000
    file.write(json.dumps(line) + '\\n')
def evaluate_all():
  for step in (10, 20, 30, 40):
    evaluate(step)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs a worker with a script; returns the table of the trials."""
  monkeypatch.setattr(worker_lib, '_POLL_SECONDS', 0.05)
  monkeypatch.setattr(worker_lib, '_RESTART_SECONDS', 0.1)
  handlers = {n: signal.getsignal(n) for n in (2, 15, 1)}

  def run(body, space=SPACE, status=0, **changes):
    start = processes_lib.start
    monkeypatch.setattr(
      worker_lib.processes_lib,
      'start',
      lambda command, **options: start(
        [sys.executable, '-c', SCRIPT + body, *command[3:]], **options
      ),
    )
    sweep = sweep_file_test.read(tmp_path, space, **changes)
    folder = epath.Path(tmp_path)
    study = studies.open_study(sweep, folder, heartbeat_seconds=1)
    worker = worker_lib.Worker(study, sweep, folder)
    try:
      assert worker.run() == status
    finally:
      monkeypatch.undo()
    results.write_all(study, sweep, folder)
    return results.to_table(study, sweep)

  yield run
  for number, handler in handlers.items():
    signal.signal(number, handler)


def test_scores_are_the_best_values_and_means_over_seeds(run, tmp_path):
  table = run('evaluate_all(); evaluate(35)', num_trials=2, seeds=(1, 4))
  assert list(table.score) == pytest.approx([2.596, 2.628])
  assert list(table.evaluations) == [5, 5]
  assert list(table.state) == ['complete'] * 2
  assert list(table.peak_memory_gb) == [1.5] * 2
  assert all(table.minutes >= 0)
  assert sorted(p.name for p in (tmp_path / 'trials/1').iterdir()) == [
    'seed_1',
    'seed_4',
  ]


@pytest.mark.parametrize(
  ('body', 'kind', 'reason'),
  [
    (
      'print("error: Invalid config:\\n  config.a=1"); sys.exit(2)',
      'bad config',
      'error: Invalid config: config.a=1',
    ),
    (
      'print("error: Step 20: loss is nan."); sys.exit(65)',
      'diverged',
      'error: Step 20: loss is nan.',
    ),
    ('raise MemoryError("no room")', 'out of memory', 'MemoryError: no room'),
    (
      'import os; os.kill(os.getpid(), 9)',
      'out of memory',
      'killed by SIGKILL, probably for its memory',
    ),
    ('raise KeyError("a")', 'crash', "KeyError: 'a'"),
    ('pass', 'crash', '{}/trials/0 has no value of the objective'),
    ('print("error: no disk"); sys.exit(74)', 'storage', 'error: no disk'),
  ],
)
def test_a_failed_trial_has_a_reason(run, tmp_path, body, kind, reason):
  [row] = run(body, num_trials=1).to_dict('records')
  assert (row['state'], row['failure']) == ('fail', kind)
  assert row['reason'] == reason.format(tmp_path)
  assert reason.format(tmp_path) in (tmp_path / 'sweep.csv').read_text()


def test_five_failures_in_a_row_stop_the_worker(run, tmp_path):
  body = 'if size == 128: evaluate_all()\nelse: print("error: x"); sys.exit(2)'
  with pytest.raises(errors.InputError, match='5 trials failed.*error: x'):
    run(body)
  rows = (tmp_path / 'sweep.csv').read_text().splitlines()[1:]
  states = [row.split(',')[1] for row in rows]
  assert states == ['fail', 'complete', *['fail'] * 5]


@pytest.mark.parametrize('status', [69, 73, 75, 143])
def test_a_temporary_failure_is_tried_again(run, status):
  body = f"""
count = len(list(workdir.glob('try*')))
(workdir / f'try{{count}}').touch()
if count < 2: sys.exit({status})
evaluate_all()
"""
  [row] = run(body, num_trials=1).to_dict('records')
  assert (row['state'], row['score']) == ('complete', 0.096)


def test_a_lasting_temporary_failure_is_recorded(run):
  body = 'print("error: no TPU"); sys.exit(69)'
  [row] = run(body, num_trials=1).to_dict('records')
  assert (row['failure'], row['reason']) == ('unavailable', 'error: no TPU')


SLOW = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
evaluate({step})
end = time.time() + {seconds}
while time.time() < end: time.sleep(0.05)
evaluate(40)
"""
# Larger images score higher: with two per rung, the third is pruned.
DESCENDING = "GRID = {'image_size': (256, 224, 192)}"
ASHA = {'pruner.name': 'asha', 'pruner.reduction_factor': 2}


def test_asha_prunes_trials_that_score_lower(run):
  table = run(SLOW.format(step=10, seconds=0.5), DESCENDING, **ASHA)
  assert list(table.state) == ['complete', 'pruned', 'pruned']
  assert list(table.evaluations) == [2, 1, 1]


def test_a_trial_after_its_last_evaluation_is_never_pruned(run):
  table = run(SLOW.format(step=40, seconds=0.5), DESCENDING, **ASHA)
  assert list(table.state) == ['complete'] * 3


def test_a_signal_stops_the_training_and_queues_the_trial_again(run, tmp_path):
  def interrupt():
    while not (tmp_path / 'trials/0/metrics.jsonl').exists():
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=interrupt).start()
  body = SLOW.format(step=10, seconds=60)
  table = run(body, status=143, num_trials=1)
  assert list(table.state) == ['waiting']
  table = run('evaluate_all()', num_trials=1)
  assert list(table.state) == ['complete']
  assert list(table.evaluations) == [5]


def test_a_trial_that_another_worker_took_is_left_to_it(run, tmp_path, caplog):
  """Even a failure or a signal at the same time does not end the worker."""
  caplog.set_level('INFO', logger='absl')
  stale = f"""
import os, optuna
from launch.sweeps import studies
from etils import epath
if size == 96 and not (workdir / 'taken').exists():
  (workdir / 'taken').touch()
  storage = studies._Journal(
    epath.Path({str(tmp_path)!r}),
    heartbeat_interval=1,
    grace_period=3,
    heartbeat_stale_trial_callback=(
      optuna.storages.RetryHeartbeatStaleTrialCallback()
    ),
  )
  study = optuna.load_study(study_name='sweep', storage=storage)
  storage._get_stale_trial_ids = lambda study_id: [0]
  optuna.storages.fail_stale_trials(study)
  sys.exit(2)
evaluate_all()
"""
  table = run(stale, num_trials=2)
  assert list(table.state) == ['complete'] * 2
  assert 'had no heartbeat for too long' in caplog.text


@pytest.mark.slow
def test_a_training_that_stops_slowly_keeps_its_heartbeat(run, tmp_path):
  """No other worker takes the trial while the training saves."""
  ages = []

  def interrupt():
    while not (tmp_path / 'trials/0/metrics.jsonl').exists():
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    end = time.monotonic() + 5
    while time.monotonic() < end:
      path = tmp_path / 'heartbeats' / '0'
      ages.append(time.time() - path.stat().st_mtime)
      time.sleep(0.1)

  thread = threading.Thread(target=interrupt)
  thread.start()
  body = """
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(5), sys.exit(143)))
evaluate(10)
time.sleep(60)
"""
  table = run(body, status=143, num_trials=1)
  thread.join()
  assert list(table.state) == ['waiting']
  assert max(ages) < 3


def test_ignored_signals_stay_ignored():
  """As with nohup, which ignores SIGHUP."""
  code = (
    'import signal; from launch import processes\n'
    'signal.signal(signal.SIGHUP, signal.SIG_IGN)\n'
    'processes.handle_stop_signals(print)\n'
    'found = [signal.getsignal(n) for n in (1, 15)]\n'
    'assert found == [signal.SIG_IGN, print], found'
  )
  env = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
  subprocess.run([sys.executable, '-c', code], env=env, check=True)


def test_processes_stop_together():
  code = (
    'import signal, sys, time\n'
    'signal.signal(15, lambda *_: (time.sleep(1.5), sys.exit(0)))\n'
    'print(flush=True); time.sleep(60)'
  )
  command = [sys.executable, '-c', code]
  processes = [
    processes_lib.start(command, stdout=subprocess.PIPE) for _ in range(4)
  ]
  for process in processes:
    process.stdout.readline()
    process.stdout.close()
  started = time.monotonic()
  processes_lib.stop(processes)
  assert time.monotonic() - started < 4.5
  assert [process.returncode for process in processes] == [0] * 4


def test_a_training_ends_with_its_worker(tmp_path):
  code = (
    'import sys, time; from launch import processes\n'
    'p = processes.start(["sleep", "60"])\n'
    'print(p.pid, flush=True); time.sleep(60)'
  )
  with subprocess.Popen(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE,
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
  ) as process:
    pid = int(process.stdout.readline())
    process.kill()
  end = time.monotonic() + 20
  while os.path.exists(f'/proc/{pid}') and not is_zombie(pid):
    assert time.monotonic() < end
    time.sleep(0.05)


def is_zombie(pid):
  with open(f'/proc/{pid}/stat') as file:
    return file.read().rpartition(')')[2].split()[0] == 'Z'


def test_results_have_plots_and_the_best_command(run, tmp_path):
  space = """
GRID = {'image_size': (96, 128), 'optimizer.learning_rate': (1e-3, 1e-2)}
"""
  run('evaluate_all()', space, flags=("--config.pretrained=it's",))
  for name in ('history', 'slices', 'curves', 'importances', 'costs'):
    assert (tmp_path / f'{name}.png').read_bytes().startswith(b'\x89PNG')
  command = (tmp_path / 'best.sh').read_text()
  printed = subprocess.run(
    ['bash', '-c', f'python() {{ printf "%s\\n" "$@"; }}; {command}'],
    capture_output=True,
    text=True,
    check=True,
  )
  assert printed.stdout.splitlines() == [
    '-m',
    'genre_flax.main',
    '--config=configs/poster_cnn.py',
    "--config.pretrained=it's",
    '--config.image_size=128',
    '--config.optimizer.learning_rate=0.001',
    '--workdir=WORKDIR',
  ]
