"""Trainings that fault-injection tests run, kill and compare."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import psutil
import pytest

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.runtime import metric_writer
from tests.launch import run_test
from tests.support import helpers
from tests.support import paths
from tests.support import programs

# Metrics that depend on the machine and the time.
_TIMINGS = {
  'images_per_second',
  'input_wait_share',
  'peak_memory_gb',
  'seconds',
}


def short_and_long(name, short, long):
  """Parametrizes a test with a short case and a long one, run on request."""
  marks = [pytest.mark.fault_injection, pytest.mark.slow]
  long = long if isinstance(name, tuple) else [long]
  return pytest.mark.parametrize(
    name, [short, pytest.param(*long, marks=marks)]
  )


def training(workdir, data_dir, *overrides):
  """The arguments of a training of 12 steps, with a checkpoint every 2."""
  return (
    'main',
    *run_test.TINY,
    '--config.num_train_steps=12',
    '--config.checkpoint_every_steps=2',
    '--config.log_every=2',
    '--config.keep_best=2',
    '--config.ema_decay=0.9',
    f'--workdir={workdir}',
    f'--config.dataset.data_dir={data_dir}',
    *overrides,
  )


def run(*arguments, **options):
  """Runs a program that must succeed; returns its output."""
  done = programs.run(*arguments, **options)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def outcome(workdir):
  """Checkpoints, metrics and final metrics of a run, without timings."""
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    steps = checkpointer.steps()
    model = checkpointer.restore_model(steps[-1])
  lines = [
    {name: value for name, value in line.items() if name not in _TIMINGS}
    for line in metric_writer.read(workdir)
  ]
  report = json.loads((workdir / 'metrics.json').read_text())
  return steps, model, lines, report


def steps(workdir):
  """The checkpoints of a run."""
  if not workdir.exists():
    return []
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    return checkpointer.steps()


def wait_for_checkpoint(workdir, seconds=120):
  """Waits until a training has written a checkpoint."""
  end = time.monotonic() + seconds
  while not steps(workdir):
    assert time.monotonic() < end, f'no checkpoint in {workdir}'
    time.sleep(0.1)


def assert_same_outcome(workdir, expected):
  """The same checkpoints, bit for bit, and the same metrics."""
  steps, model, lines, report = outcome(workdir)
  assert steps == expected[0]
  helpers.assert_trees_equal(model, expected[1])
  assert lines == expected[2]
  assert report == expected[3]


def assert_complete(workdir):
  """Every file with a final name is complete."""
  if not workdir.exists():
    return
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    for step in checkpointer.steps():
      checkpointer.read_meta(step)
      for array in jax.tree.leaves(checkpointer.restore_model(step)):
        assert np.isfinite(array).all()
  for name in ('config.json', 'metrics.json'):
    if (workdir / name).exists():
      json.loads((workdir / name).read_text())
  metric_writer.read(workdir)
  sheet = workdir / 'contact_sheet.png'
  assert not sheet.exists() or sheet.read_bytes().endswith(b'IEND\xaeB`\x82')


def start(module, *arguments, **variables):
  """Starts a program in its own session, without its output."""
  return subprocess.Popen(
    [sys.executable, '-m', module, *map(str, arguments)],
    cwd=paths.ROOT,
    env=programs.environment(**variables),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )


def kill_after(seconds, *processes):
  """Kills the sessions of processes after some time, or when one has ended."""
  end = time.monotonic() + seconds
  while time.monotonic() < end and all(p.poll() is None for p in processes):
    time.sleep(0.01)
  for process in processes:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def running(folder):
  """The processes with a folder in their command line."""
  found = []
  for process in psutil.process_iter(['pid', 'cmdline', 'status']):
    words = process.info['cmdline'] or ()
    if (
      any(str(folder) in word for word in words)
      and process.info['pid'] != os.getpid()
      and process.info['status'] != psutil.STATUS_ZOMBIE
    ):
      found.append(process)
  return found


def wait_until_none(folder, seconds=60):
  """Waits until no process has a folder in its command line."""
  end = time.monotonic() + seconds
  while found := running(folder):
    assert time.monotonic() < end, [p.cmdline() for p in found]
    time.sleep(0.1)
