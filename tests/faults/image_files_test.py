"""Valid, damaged and hostile image files in `top3` and `prepare`."""

import csv
import time

from etils import epath
import pytest

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import sources
from genre_flax.inference import image_files
from genre_flax.reports import image_report
from tests.faults import image_cases
from tests.reports import image_report_test
from tests.support import programs

# The programs do not show Pillow's warnings.
pytestmark = pytest.mark.filterwarnings(r'ignore:.*:UserWarning:PIL\.')
MAX_SECONDS = 10


@pytest.fixture(scope='module')
def cases(tmp_path_factory):
  """The folder, the number of files, and the number of valid ones."""
  folder = tmp_path_factory.mktemp('images') / 'in'
  return folder, *image_cases.write(folder)


def test_predict(cases, tmp_path, capsys):
  folder, number, num_valid = cases
  files = image_files.find([str(folder)])
  assert len(files) == number > 250
  predictor = image_report_test.Predictor()
  num_scored = 0
  for file in files:
    started = time.monotonic()
    [result] = image_files.predict_files(predictor, [file], batch_size=1)
    assert time.monotonic() - started < MAX_SECONDS, file
    num_scored += result.error is None
    if image_cases.is_valid(file.name):
      assert result.error is None, (file, result.error)
  assert num_scored >= num_valid
  # All at once, every file is a row of a table.
  output = epath.Path(tmp_path / 'out')
  image_report.predict(predictor, [str(folder)], output=output, batch_size=9)
  printed = capsys.readouterr()
  assert len(printed.out.splitlines()) == num_scored + 3
  assert '\x1b' not in printed.out + printed.err
  scored, unreadable = (
    list(csv.reader((output / name).read_text().splitlines()))
    for name in ('predictions.csv', 'unreadable.csv')
  )
  assert len(scored) - 1 == num_scored
  assert len(unreadable) - 1 == number - num_scored
  cells = [cell for row in scored + unreadable for cell in row]
  assert not any(cell.startswith('=') for cell in cells)


def test_prepare(cases, tmp_path):
  folder, _, _ = cases
  table = epath.Path(tmp_path / 'posters.csv')
  names = [file.name for file in image_files.find([str(folder)])]
  # A table cannot contain the other names.
  names = [n for n in names if n.isprintable() and n == n.strip()]
  with open(table, 'w', encoding='utf-8') as file:
    writer = csv.writer(file)
    writer.writerow(['Id', 'Genre', 'File'])
    writer.writerows(
      [f'film{i}', 'Drama', name] for i, name in enumerate(names)
    )
  spool = epath.Path(tmp_path / 'spool')
  spool.mkdir()
  found = collection.collect(
    [sources.Source(table, epath.Path(folder), columns.Columns(image='File'))],
    shares={'train': 80, 'validation': 10, 'test': 10},
    spool=spool,
  )
  assert len(found.examples) > 40
  assert len(found.examples) + len(found.problems) == len(names)
  for example in found.examples:
    image, is_normal = images.open_rgb(example.read())
    assert is_normal
    assert image.size == (example.width, example.height)


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


@pytest.mark.slow
def test_memory_is_bounded(cases):
  done = programs.run_code(_DECODE_ALL, cases[0])
  # Two copies of the largest RGB image, and the largest accepted file.
  limit = 2 * 3 * images.MAX_PIXELS + images.MAX_BYTES
  assert float(done.stdout) * 2**20 < limit
