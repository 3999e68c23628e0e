"""Two programs on the same thing: one works, the other is refused by name."""

import concurrent.futures
import multiprocessing
import re
import subprocess
import time

import numpy as np
import pytest

from genre_flax.data import cache as cache_lib
from genre_flax.runtime import lock
from tests.faults import outcomes as outcomes_lib
from tests.launch import run_test
from tests.support import binaries
from tests.support import paths

pytestmark = pytest.mark.slow
GROUP = 'two at once'


def wait_for(path, seconds=60):
  end = time.monotonic() + seconds
  while not path.exists():
    assert time.monotonic() < end, f'{path} did not appear'
    time.sleep(0.02)


def test_trainings_in_one_workdir(data_dir, tmp_path):
  outcomes = outcomes_lib.Outcomes('trainings in one workdir', group=GROUP)
  arguments = (
    'main',
    *run_test.TINY,
    f'--workdir={tmp_path / "run"}',
    f'--config.dataset.data_dir={data_dir}',
    '--config.eval_every_epochs=1000',
    '--config.num_train_steps=400',
  )
  first = binaries.start(*arguments)
  wait_for(tmp_path / 'run' / 'config.json')
  second = binaries.run(*arguments)
  assert second.returncode == 73
  assert f'error: Another training (process {first.pid}) runs in' in (
    second.stderr
  )
  assert 'Traceback' not in second.stderr
  output, _ = first.communicate(timeout=120)
  assert first.returncode == 0, output
  outcomes['one works, one is refused by name'] += 1
  outcomes.done()


@pytest.mark.drill
def test_preparing_one_data_set(tmp_path):
  outcomes = outcomes_lib.Outcomes('prepare into one folder', group=GROUP)
  arguments = ('prepare', '--synthetic=400', f'--data_dir={tmp_path / "data"}')
  both = [binaries.start(*arguments) for _ in range(2)]
  outputs = [one.communicate(timeout=120)[0] for one in both]
  statuses = sorted(one.returncode for one in both)
  # Either it was refused, or the first had ended before it began.
  assert statuses in ([0, 73], [0, 0]), outputs
  if statuses == [0, 73]:
    [refused] = [o for o in outputs if 'error: ' in o]
    assert re.search(r'Another prepare \(process \d+\) writes to', refused)
  verified = binaries.run(
    'prepare', '--verify', f'--data_dir={tmp_path / "data"}'
  )
  assert verified.returncode == 0, verified.stderr
  assert 'match their checksums' in verified.stdout
  outcomes['one works, one is refused by name'] += 1
  outcomes.done()


def _fill(path, seed):
  """Fills a cache in an order of its own; returns all it gives."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (200, 16, 8, 3), np.uint8)
  labels = rng.integers(0, 2, (200, 5)).astype(np.float32)
  cache = cache_lib.DiskCache(
    path, num_examples=200, image_shape=(16, 8, 3), num_genres=5
  )

  def decode(index):
    return {'image': images[index], 'labels': labels[index]}

  order = np.random.default_rng(seed).permutation(200)
  found = {int(i): cache.get(int(i), decode) for i in order}
  return all(
    np.array_equal(found[i]['image'], images[i])
    and np.array_equal(found[i]['labels'], labels[i])
    for i in range(200)
  )


def test_filling_one_cache(tmp_path):
  outcomes = outcomes_lib.Outcomes(
    'processes filling one cache of decoded posters', group=GROUP
  )
  path = str(tmp_path / 'cache.rows')
  with concurrent.futures.ProcessPoolExecutor(
    2, mp_context=multiprocessing.get_context('spawn')
  ) as pool:
    results = list(pool.map(_fill, [path] * 6, range(6)))
  assert all(results)
  outcomes['both work, with the right numbers'] += len(results)
  outcomes.done()


def test_controllers_of_one_sweep(tmp_path):
  outcomes = outcomes_lib.Outcomes('controllers of one sweep', group=GROUP)
  with lock.hold(tmp_path / 'sweep' / 'lock', ''):
    done = subprocess.run(
      [
        *run_test.command()[:2],
        'launch.sweep',
        '--config=configs/sweeps/image_size.py',
        f'--sweep_dir={tmp_path / "sweep"}',
      ],
      cwd=paths.ROOT,
      capture_output=True,
      text=True,
      timeout=60,
      check=False,
    )
  assert done.returncode == 73, done.stderr
  assert re.search(r'Process \d+ runs the sweep in', done.stderr)
  assert not list((tmp_path / 'sweep').glob('journal*'))
  outcomes['one works, one is refused by name'] += 1
  outcomes.done()
