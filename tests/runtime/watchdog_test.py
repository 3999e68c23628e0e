"""The watchdog in scripts, and in trainings with a stuck input or peer."""

import signal
import subprocess
import sys
import time

import pytest

from genre_flax.runtime import metric_writer
from genre_flax.runtime import watchdog
from tests.support import paths
from tests.support import programs
from tests.training import multi_process_test

SCRIPT = """
import time
from genre_flax.runtime import watchdog
def stuck():
  time.sleep(60)
with watchdog.watch(0.4):
  {body}
"""
STUCK_INPUT = """
import sys, time
from genre_flax import main
from genre_flax.runtime import command_line
from genre_flax.training import inputs
batches_of = inputs.train_batches
def train_batches(*args, **kwargs):
  for number, batch in enumerate(batches_of(*args, **kwargs)):
    if number == 5:
      time.sleep(600)
    yield batch
inputs.train_batches = train_batches
command_line.run(main.main)
"""
# Longer than the set-up, which is watched too.
STALL_TIMEOUT = '--stall_timeout_minutes=0.4'


def run(body):
  code = SCRIPT.format(body=body.replace('\n', '\n  '))
  return subprocess.run(
    [sys.executable, '-c', code],
    cwd=paths.ROOT,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


def test_steps_that_stop_end_the_process_with_all_stacks():
  done = run('watchdog.report_progress()\nstuck()')
  assert done.returncode == 75
  assert 'error: No step was finished' in done.stderr
  assert 'in stuck' in done.stderr


def test_a_set_up_that_hangs_ends_the_process():
  done = run('stuck()')
  assert done.returncode == 75
  assert 'in stuck' in done.stderr


@pytest.mark.parametrize(
  'body',
  [
    'for _ in range(10):\n  watchdog.report_progress(); time.sleep(0.1)',
    'watchdog.report_progress()\nwatchdog.excluding_first_call(time.sleep)(1)',
    'watchdog.report_progress()\nwatchdog.expect_no_progress(); time.sleep(1)',
  ],
)
def test_other_processes_continue(body):
  done = run(body)
  assert done.returncode == 0, done.stderr


def test_later_calls_are_watched():
  done = run('f = watchdog.excluding_first_call(time.sleep)\nf(1)\nf(60)')
  assert done.returncode == 75


def test_a_timeout_of_0_watches_nothing():
  with watchdog.watch(0):
    watchdog.report_progress()
  assert watchdog.excluding_first_call(max)(1, 2) == 2


@pytest.mark.slow
def test_a_training_with_a_stuck_input_ends(data_dir, tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, '-c', STUCK_INPUT, *multi_process_test.CONFIG),
      *(f'--workdir={tmp_path}', STALL_TIMEOUT),
      f'--config.dataset.data_dir={data_dir}',
    ],
    cwd=paths.ROOT,
    env=programs.environment(),
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert done.returncode == 75, done.stderr
  assert 'in train_batches' in done.stderr


@pytest.mark.slow
def test_a_training_with_a_stuck_peer_ends(data_dir, tmp_path):
  address = programs.free_address()
  processes = [
    programs.start(
      'main',
      *multi_process_test.CONFIG,
      '--config.num_train_steps=100000',
      '--config.log_every=1',
      f'--workdir={tmp_path}',
      f'--config.dataset.data_dir={data_dir}',
      STALL_TIMEOUT,
      JAX_COORDINATOR_ADDRESS=address,
      JAX_NUM_PROCESSES=2,
      JAX_PROCESS_ID=i,
    )
    for i in range(2)
  ]
  try:
    end = time.monotonic() + 120
    while len(metric_writer.read(tmp_path)) < 3 and time.monotonic() < end:
      time.sleep(0.1)
    processes[1].send_signal(signal.SIGSTOP)
    output = processes[0].communicate(timeout=90)[0]
  finally:
    for process in processes:
      process.kill()
      process.communicate()
  assert processes[0].returncode == 75, output
  assert 'error: No step was finished' in output
  assert '_loop' in output
