"""What drills on whole programs share: a tiny run, and its right end."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.runtime import metric_writer
from tests.launch import run_test
from tests.support import binaries
from tests.support import helpers
from tests.support import paths

# Of a line of metrics: what is of the clock and the machine.
_OF_THE_CLOCK = {
  'images_per_second',
  'input_wait_share',
  'peak_memory_gb',
  'seconds',
}


def training(workdir, data_dir, *overrides):
  """The arguments of a training of twelve steps, with a checkpoint each two."""
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


def outcome(workdir):
  """All that a run ends in, but for clocks."""
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    steps = checkpointer.steps()
    model = checkpointer.restore_model(steps[-1])
  lines = [
    {name: value for name, value in line.items() if name not in _OF_THE_CLOCK}
    for line in metric_writer.read(workdir)
  ]
  report = json.loads((workdir / 'metrics.json').read_text())
  return steps, model, lines, report


def assert_same_outcome(workdir, expected):
  """The same checkpoints, bit for bit, and the same metrics."""
  steps, model, lines, report = outcome(workdir)
  assert steps == expected[0]
  helpers.assert_trees_equal(model, expected[1])
  assert lines == expected[2]
  assert report == expected[3]


def assert_all_whole(workdir):
  """What stands under its name is whole; what is not has another name."""
  if not workdir.exists():
    return
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    for step in checkpointer.steps():
      checkpointer.read_meta(step)
      for array in _leaves(checkpointer.restore_model(step)):
        assert np.isfinite(array).all()
  for name in ('config.json', 'metrics.json'):
    if (workdir / name).exists():
      json.loads((workdir / name).read_text())
  metric_writer.read(workdir)
  sheet = workdir / 'contact_sheet.png'
  assert not sheet.exists() or sheet.read_bytes().endswith(b'IEND\xaeB`\x82')


def _leaves(tree):
  for value in tree.values():
    yield from _leaves(value) if isinstance(value, dict) else [value]


def start(module, *arguments, **variables):
  """Starts a program in a session of its own, its output thrown away."""
  return subprocess.Popen(
    [sys.executable, '-m', module, *map(str, arguments)],
    cwd=paths.ROOT,
    env=binaries.environment(**variables),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    start_new_session=True,
  )


def kill_after(processes, seconds):
  """Kills programs at a moment; says whether one was still running."""
  end = time.monotonic() + seconds
  while time.monotonic() < end and all(p.poll() is None for p in processes):
    time.sleep(0.01)
  was_running = any(p.poll() is None for p in processes)
  for process in processes:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
  return was_running


def processes_of(folder):
  """The programs that have a folder in their command line."""
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
  """Waits until no program works on a folder any more."""
  end = time.monotonic() + seconds
  while found := processes_of(folder):
    assert time.monotonic() < end, [p.cmdline() for p in found]
    time.sleep(0.1)
