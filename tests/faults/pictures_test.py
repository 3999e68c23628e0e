"""Pictures of all kinds, through `top3` and `prepare`."""

import csv
import subprocess
import sys
import time

from etils import epath
import pytest

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import sources
from genre_flax.inference import image_files
from genre_flax.reports import image_report
from tests.faults import outcomes as outcomes_lib
from tests.faults import pictures
from tests.reports import image_report_test
from tests.support import paths

# The programs ignore them too: what matters is an error.
pytestmark = pytest.mark.filterwarnings(r'ignore:.*:UserWarning:PIL\.')
MAX_SECONDS = 10
GROUP = 'pictures of all kinds'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pictures') / 'in'
  return folder, *pictures.make(folder)


def test_naming_genres(made, tmp_path, capsys):
  folder, number, sound = made
  outcomes = outcomes_lib.Outcomes('naming genres', group=GROUP)
  assert number > 250
  files = image_files.find([str(folder)])
  assert len(files) == number
  slowest = 0.0
  predictor = image_report_test.Predictor()
  for file in files:
    started = time.monotonic()
    [result] = image_files.predict_files(predictor, [file], batch_size=1)
    slowest = max(slowest, time.monotonic() - started)
    is_sound = file.name.startswith(('ok_', '-ok'))
    if is_sound:
      assert result.error is None, (file, result.error)
    outcomes['scored' if result.error is None else 'refused by name'] += 1
  assert slowest < MAX_SECONDS
  assert outcomes['scored'] >= sound
  outcomes.done()
  # All at once: every file is a row or is told.
  output = epath.Path(tmp_path / 'out')
  image_report.predict(predictor, [str(folder)], output=output, batch_size=9)
  told = capsys.readouterr()
  assert len(told.out.splitlines()) == outcomes['scored'] + 3
  assert '\x1b' not in told.out + told.err
  rows = list(csv.reader((output / 'predictions.csv').read_text().splitlines()))
  bad = list(csv.reader((output / 'unreadable.csv').read_text().splitlines()))
  assert len(rows) - 1 == outcomes['scored']
  assert len(bad) - 1 == outcomes['refused by name']
  assert not any(cell.startswith('=') for row in rows + bad for cell in row)


def test_making_a_data_set(made, tmp_path):
  folder, number, sound = made
  outcomes = outcomes_lib.Outcomes('making a data set', group=GROUP)
  csv_file = epath.Path(tmp_path / 'posters.csv')
  names = [file.name for file in image_files.find([str(folder)])]
  # A CSV is text: it cannot name what is no text, nor hold a line feed bare.
  names = [n for n in names if n.isprintable() and n == n.strip()]
  with open(csv_file, 'w', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['Id', 'Genre', 'File'])
    writer.writerows(
      [f'film{i}', 'Drama', name] for i, name in enumerate(names)
    )
  spool = epath.Path(tmp_path / 'spool')
  spool.mkdir()
  found = collection.collect(
    [
      sources.Source(
        csv_file,
        epath.Path(folder),
        columns.Columns(image='File'),
      )
    ],
    shares={'train': 80, 'validation': 10, 'test': 10},
    spool=spool,
  )
  assert len(found.examples) + len(found.problems) == len(names)
  for example in found.examples:
    image, is_normal = images.open_rgb(example.read())
    assert is_normal
    assert image.size == (example.width, example.height)
  outcomes['stored'] += len(found.examples)
  outcomes['a problem by file and row'] += len(found.problems)
  outcomes.done()
  assert outcomes['stored'] > 40


_DECODE_ALL = """
import resource, sys
import numpy as np
from etils import epath
from genre_flax.datasets.posters import images
from genre_flax.inference import image_files
files = image_files.find([sys.argv[1]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in files:
  image_files.decode(file, (240, 160))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) / 1024)
"""


def test_memory_is_bounded(made):
  folder, _, _ = made
  done = subprocess.run(
    [sys.executable, '-c', _DECODE_ALL, str(folder)],
    cwd=paths.ROOT,
    capture_output=True,
    text=True,
    check=True,
    timeout=120,
  )
  # 64 megapixels in RGB, as a copy, and the largest file that is accepted.
  limit = 2 * 3 * images.MAX_PIXELS + images.MAX_BYTES
  assert float(done.stdout) * 2**20 < limit
