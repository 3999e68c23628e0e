"""Two programs on the same files: one works, the other is refused."""

import concurrent.futures
import multiprocessing
import re
import signal
import time

import numpy as np
import pytest

from genre_flax.data import cache as cache_lib
from genre_flax.runtime import errors
from tests.faults import trainings
from tests.support import programs

pytestmark = pytest.mark.slow
BUSY = errors.BusyError.exit_status


def test_trainings_in_one_workdir(data_dir, tmp_path):
  arguments = trainings.training(
    tmp_path / 'run',
    data_dir,
    '--config.num_train_steps=100000',
    '--config.checkpoint_every_steps=1000',
    '--config.eval_every_epochs=1000',
  )
  first = programs.start(*arguments)
  end = time.monotonic() + 60
  while not (tmp_path / 'run' / 'config.json').exists():
    assert time.monotonic() < end
    time.sleep(0.02)
  second = programs.run(*arguments)
  assert second.returncode == BUSY
  assert f'error: Another training (process {first.pid}) runs in' in (
    second.stderr
  )
  assert 'Traceback' not in second.stderr
  first.terminate()
  output, _ = first.communicate(timeout=120)
  assert first.returncode == 128 + signal.SIGTERM, output


@pytest.mark.fault_injection
def test_prepare_into_one_folder(tmp_path):
  flags = ('prepare', f'--data_dir={tmp_path / "data"}')
  both = [programs.start(*flags, '--synthetic=400') for _ in range(2)]
  outputs = [process.communicate(timeout=120)[0] for process in both]
  statuses = sorted(process.returncode for process in both)
  # The second was refused, or started after the end of the first.
  assert statuses in ([0, BUSY], [0, 0]), outputs
  if statuses == [0, BUSY]:
    [refused] = [output for output in outputs if 'error: ' in output]
    assert re.search(r'Another prepare \(process \d+\) writes to', refused)
  trainings.run(*flags, '--verify')


def fill_cache(path, seed):
  """Fills a cache in random order; returns whether all examples are correct."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (200, 16, 8, 3), np.uint8)
  labels = rng.integers(0, 2, (200, 5)).astype(np.float32)
  cache = cache_lib.DiskCache(
    path,
    num_examples=200,
    blank={'image': images[0], 'labels': labels[0]},
  )

  def decode(index):
    return {'image': images[index], 'labels': labels[index]}

  order = np.random.default_rng(seed).permutation(200)
  found = {int(index): cache.get(int(index), decode) for index in order}
  return all(
    np.array_equal(found[index]['image'], images[index])
    and np.array_equal(found[index]['labels'], labels[index])
    for index in range(200)
  )


def test_processes_share_one_image_cache(tmp_path):
  path = str(tmp_path / 'cache.rows')
  with concurrent.futures.ProcessPoolExecutor(
    2, mp_context=multiprocessing.get_context('spawn')
  ) as pool:
    assert all(pool.map(fill_cache, [path] * 6, range(6)))
