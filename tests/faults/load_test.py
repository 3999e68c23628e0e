"""Much at once: memory that does not grow with it."""

import csv
import itertools
import json
import random
import subprocess
import sys
import time

import pytest

from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.runtime import metric_writer
from tests.faults import outcomes as outcomes_lib
from tests.faults import runs
from tests.launch import sweep_test
from tests.support import binaries
from tests.support import paths

pytestmark = [pytest.mark.slow, pytest.mark.drill]
GROUP = 'load'
GENRES = sorted(synthetic.GENRES)
# Runs a program, and then writes the most memory it had, in GB.
_MEASURED = """
import atexit, resource, runpy, sys
target = sys.argv.pop(1)
def tell():
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  open(target, 'w').write(str(peak))
atexit.register(tell)
runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)
"""


def measure(folder, *arguments):
  """Runs a program; returns its peak of memory in GB and its seconds."""
  target = folder / 'peak'
  started = time.monotonic()
  done = subprocess.run(
    [sys.executable, '-c', _MEASURED, str(target), *map(str, arguments)],
    cwd=paths.ROOT,
    env=binaries.environment(),
    capture_output=True,
    text=True,
    timeout=1200,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return float(target.read_text()), time.monotonic() - started


def run_code(code, *arguments):
  """Runs Python; returns what it prints, as numbers."""
  done = subprocess.run(
    [sys.executable, '-c', code, *map(str, arguments)],
    cwd=paths.ROOT,
    capture_output=True,
    text=True,
    timeout=1200,
    check=True,
  )
  return [float(word) for word in done.stdout.split()]


def write_many(folder, number):
  """Posters of distinct bytes, and their CSV."""
  _, images = synthetic.write_posters(folder / 'drawn', num_posters=500)
  drawn = [path.read_bytes() for path in sorted(images.iterdir())]
  rng = random.Random(0)
  target = folder / 'images'
  target.mkdir()
  with open(folder / 'posters.csv', 'w', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['Id', 'Genre'])
    for index, content in zip(
      range(number), itertools.cycle(drawn), strict=False
    ):
      name = f'tt{index:08d}'
      (target / f'{name}.jpg').write_bytes(content + name.encode())
      genres = rng.sample(GENRES, rng.randint(1, 3))
      writer.writerow([name, '|'.join(genres)])
  return target


def test_ten_thousand_pictures(data_dir, tmp_path):
  outcomes = outcomes_lib.Outcomes('10,000 pictures, `top3`', group=GROUP)
  done = binaries.run(*runs.training(tmp_path / 'run', data_dir))
  assert done.returncode == 0, done.stderr
  peaks = []
  for number in (1000, 10_000):
    folder = tmp_path / str(number)
    folder.mkdir()
    images = write_many(folder, number)
    peak, _ = measure(
      folder,
      'genre_flax.top3',
      f'--workdir={tmp_path / "run"}',
      f'--output={folder / "out"}',
      images,
    )
    peaks.append(peak)
    table = (folder / 'out' / 'predictions.csv').read_text()
    assert len(table.splitlines()) == number + 1
  assert peaks[1] < 1.1 * peaks[0]
  outcomes[f'at most {peaks[1]:.2f} GB; {peaks[0]:.2f} GB of 1,000'] = 10_000
  outcomes.done()


def test_two_hundred_thousand_posters(tmp_path):
  outcomes = outcomes_lib.Outcomes('200,000 posters, `prepare`', group=GROUP)
  seconds = []
  for number in (50_000, 200_000):
    folder = tmp_path / str(number)
    folder.mkdir()
    images = write_many(folder, number)
    peak, taken = measure(
      folder,
      'genre_flax.prepare',
      f'--csv={folder / "posters.csv"}',
      f'--images={images}',
      f'--data_dir={folder / "data"}',
    )
    seconds.append(taken)
    assert peak < 1.0
    subprocess.run(['rm', '-r', str(images)], check=True)
  dataset = storage.open_dataset(folder / 'data')
  shards = list(storage.dataset_path(folder / 'data').glob('*array_record*'))
  assert max(path.stat().length for path in shards) < 260e6
  assert len(shards) > 20
  assert sum(s['num_examples'] for s in dataset.card['splits'].values()) == (
    200_000
  )
  growth = seconds[1] / seconds[0] / 4
  words = (
    f'at most {peak:.2f} GB, {seconds[1]:.0f} s; {growth:.2f} times the time'
    ' a poster of 50,000'
  )
  outcomes[words] = 200_000
  outcomes.done()


_READ_CSV = """
import resource, sys, time
from etils import epath
from genre_flax.datasets.posters import annotations
started = time.monotonic()
found = annotations.read_csv(epath.Path(sys.argv[1]))
print(len(found.rows), len(found.problems))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
print(time.monotonic() - started)
"""


def test_a_million_rows(tmp_path):
  outcomes = outcomes_lib.Outcomes('a CSV of 1,000,000 rows', group=GROUP)
  path = tmp_path / 'posters.csv'
  labels = ','.join(GENRES)
  rng = random.Random(0)
  with open(path, 'w', encoding='utf-8') as file:
    file.write(f'Id,Genre,{labels}\n')
    for index in range(1_000_000):
      chosen = set(rng.sample(GENRES, 2))
      cells = ','.join('01'[name in chosen] for name in GENRES)
      file.write(f'tt{index:08d},{"|".join(sorted(chosen))},{cells}\n')
  rows, problems, peak, seconds = run_code(_READ_CSV, path)
  assert (rows, problems) == (1_000_000, 0)
  assert peak < 1.5
  outcomes[f'read in at most {peak:.2f} GB, {seconds:.0f} s'] = 1_000_000
  outcomes.done()


_METRICS = """
import resource, time
import numpy as np
from genre_flax.evaluation import bootstrap
rng = np.random.default_rng(0)
scores = rng.random((1_000_000, 25), np.float32).astype(float)
labels = rng.random(scores.shape, np.float32) < 0.1
started = time.monotonic()
found = bootstrap.intervals(scores, labels, num_samples=8)
low, high = found['mean_roc_auc']
print(low, high, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
print(time.monotonic() - started)
"""


def test_metrics_of_a_million_posters():
  outcomes = outcomes_lib.Outcomes(
    'metrics and intervals of 1,000,000 posters', group=GROUP
  )
  low, high, peak, seconds = run_code(_METRICS)
  # Of scores that know nothing.
  assert 0.498 < low < high < 0.502
  assert peak < 1.6
  words = f'at most {peak:.2f} GB, 0.2 of it the scores, {seconds:.0f} s'
  outcomes[words] = 1_000_000
  outcomes.done()


def test_a_sweep_of_two_hundred_trials(data_dir, tmp_path):
  outcomes = outcomes_lib.Outcomes('a sweep of 200 trials', group=GROUP)
  text = sweep_test.SWEEP.replace('num_train_steps=4', 'num_train_steps=1')
  text = text.replace('(-1.0, 1e-3)', 'tuple(n * 1e-5 for n in range(1, 201))')
  (tmp_path / 'sweep.py').write_text(text)
  started = time.monotonic()
  done = sweep_test.sweep(
    f'--config={tmp_path / "sweep.py"}',
    f'--sweep_dir={tmp_path / "sweep"}',
    '--parallel=2',
    '--',
    '--config.dataset.synthetic_posters=0',
    f'--config.dataset.data_dir={data_dir}',
    '--config.dataset.test_split=',
    '--config.tensorboard=False',
    timeout=2400,
  )
  seconds = time.monotonic() - started
  assert done.returncode == 0, done.stderr[-3000:]
  with (tmp_path / 'sweep' / 'sweep.csv').open() as file:
    states = [row['state'] for row in csv.DictReader(file)]
  assert states == ['done'] * 200
  runs.wait_until_none(tmp_path)
  outcomes[f'done, {seconds / 200:.1f} s each'] = 200
  outcomes.done()


def test_a_hundred_thousand_steps(data_dir, tmp_path):
  outcomes = outcomes_lib.Outcomes('a training of 100,000 steps', group=GROUP)
  workdir = tmp_path / 'run'
  done = binaries.run(
    *runs.training(workdir, data_dir),
    '--config.batch_size=8',
    '--config.dataset.cache=memory',
    '--config.num_train_steps=100000',
    '--config.checkpoint_every_steps=20000',
    '--config.eval_every_epochs=2000',
    '--config.log_every=1000',
    timeout=1500,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  peaks = {
    line['step']: line['peak_memory_gb']
    for line in metric_writer.read(workdir)
    if 'peak_memory_gb' in line
  }
  assert peaks[100_000] < 1.03 * peaks[20_000]
  assert json.loads((workdir / 'metrics.json').read_text())
  outcomes[
    f'{peaks[20_000]:.3f} GB after 20,000, {peaks[100_000]:.3f} GB in the end'
  ] = 100_000
  outcomes.done()
