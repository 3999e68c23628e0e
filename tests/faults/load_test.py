"""Large inputs and long runs: bounded memory."""

import csv
import itertools
import random

import pytest

from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.runtime import metric_writer
from tests.faults import trainings
from tests.support import programs

pytestmark = [pytest.mark.slow, pytest.mark.fault_injection]
GENRES = sorted(synthetic.GENRES)
_PEAK = 'resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6'  # In GB.
# Runs a module and writes the peak memory to a file.
_RUN_MODULE = f"""
import atexit, resource, runpy, sys
target = open(sys.argv.pop(1), 'w')
atexit.register(lambda: print({_PEAK}, file=target, flush=True))
runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)
"""


def run_code(code, *arguments):
  variables = programs.environment()
  done = programs.run_code(code, *arguments, timeout=1200, **variables)
  assert done.returncode == 0, done.stderr
  return done.stdout


def peak_of_program(folder, *arguments):
  """Runs a program; returns its peak memory in GB."""
  run_code(_RUN_MODULE, folder / 'peak', *arguments)
  return float((folder / 'peak').read_text())


def write_posters(folder, number):
  """Writes posters with distinct bytes, and their table."""
  folder.mkdir()
  _, images = synthetic.write_posters(folder / 'originals', num_posters=500)
  contents = [path.read_bytes() for path in sorted(images.iterdir())]
  rng = random.Random(0)
  target = folder / 'images'
  target.mkdir()
  with open(folder / 'posters.csv', 'w', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['Id', 'Genre'])
    for index, content in zip(
      range(number), itertools.cycle(contents), strict=False
    ):
      name = f'tt{index:08d}'
      (target / f'{name}.jpg').write_bytes(content + name.encode())
      writer.writerow([name, '|'.join(rng.sample(GENRES, rng.randint(1, 3)))])
  return target


def test_predict_ten_thousand_images(data_dir, tmp_path):
  trainings.run(*trainings.training(tmp_path / 'run', data_dir))
  peaks = []
  for number in (1000, 10_000):
    folder = tmp_path / str(number)
    images = write_posters(folder, number)
    peaks.append(
      peak_of_program(
        folder,
        'genre_flax.top3',
        f'--workdir={tmp_path / "run"}',
        f'--output={folder / "out"}',
        images,
      )
    )
    table = (folder / 'out' / 'predictions.csv').read_text()
    assert len(table.splitlines()) == number + 1
  assert peaks[1] < 1.1 * peaks[0]


def test_prepare_two_hundred_thousand_posters(tmp_path):
  folder = tmp_path / 'posters'
  images = write_posters(folder, 200_000)
  peak = peak_of_program(
    folder,
    'genre_flax.prepare',
    f'--csv={folder / "posters.csv"}',
    f'--images={images}',
    f'--data_dir={folder / "data"}',
  )
  assert peak < 1.0
  dataset = storage.open_dataset(folder / 'data')
  shards = list(storage.dataset_path(folder / 'data').glob('*array_record*'))
  assert max(path.stat().length for path in shards) < 260e6
  assert len(shards) > 20
  splits = dataset.card['splits'].values()
  assert sum(split['num_examples'] for split in splits) == 200_000


_READ_TABLE = f"""
import resource, sys
from etils import epath
from genre_flax.datasets.posters import annotations
found = annotations.read_csv(epath.Path(sys.argv[1]))
print(len(found.rows), len(found.problems), {_PEAK})
"""


def test_read_a_million_rows(tmp_path):
  path = tmp_path / 'posters.csv'
  rng = random.Random(0)
  with open(path, 'w', encoding='utf-8') as file:
    file.write(f'Id,Genre,{",".join(GENRES)}\n')
    for index in range(1_000_000):
      chosen = set(rng.sample(GENRES, 2))
      cells = ','.join('01'[name in chosen] for name in GENRES)
      file.write(f'tt{index:08d},{"|".join(sorted(chosen))},{cells}\n')
  num_rows, num_problems, peak = run_code(_READ_TABLE, path).split()
  assert (num_rows, num_problems) == ('1000000', '0')
  assert float(peak) < 0.6


_METRICS = f"""
import resource
import numpy as np
from genre_flax.evaluation import bootstrap
from genre_flax.evaluation import metrics
rng = np.random.default_rng(0)
scores = rng.random((1_000_000, 25), np.float32).astype(float)
labels = rng.random(scores.shape, np.float32) < 0.1
found = bootstrap.intervals(metrics.Inputs(scores, labels), num_samples=8)
print(*found['mean_roc_auc'][1:], {_PEAK})
"""


def test_metrics_of_a_million_posters():
  low, high, peak = map(float, run_code(_METRICS).split())
  # The scores are independent of the labels.
  assert 0.498 < low < high < 0.502
  assert peak < 1.6


def test_train_a_hundred_thousand_steps(data_dir, tmp_path):
  trainings.run(
    *trainings.training(tmp_path, data_dir),
    '--config.batch_size=8',
    '--config.dataset.cache=memory',
    '--config.num_train_steps=100000',
    '--config.checkpoint_every_steps=20000',
    '--config.eval_every_epochs=2000',
    '--config.log_every=1000',
    timeout=1500,
  )
  peaks = {
    line['step']: line['peak_memory_gb']
    for line in metric_writer.read(tmp_path)
    if 'peak_memory_gb' in line
  }
  assert peaks[100_000] < 1.03 * peaks[20_000]
