"""Tests of the report of image files, with a fake predictor."""

import csv
import json
import os

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.evaluation import calibration
from genre_flax.reports import image_report

GENRES = ('Drama', 'War', 'Western')


class Predictor:
  """Scores an image by its first pixel."""

  genres = GENRES
  calibration = calibration.identity(GENRES)
  image_shape = (6, 4)
  text = None

  def fit_batch_size(self, batch_size):
    return batch_size

  def predict(self, images, *, batch_size, text):
    assert text is None
    assert images.shape[1:] == (6, 4, 3)
    red = images[:, 0, 0, 0] / 255
    return np.stack([red, 1 - red, red / 2], axis=1)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'in').mkdir()
  for number in range(10):
    image = Image.new('RGB', (4, 6), (25 * number, 0, 0))
    image.save(tmp_path / 'in' / f'{number}.png')
  return tmp_path / 'in'


def predict(folder, output):
  return image_report.predict(
    Predictor(),
    [str(folder)],
    output=epath.Path(output),
    batch_size=3,
  )


def rows_of(path):
  return list(csv.reader(path.read_text().splitlines()))


def test_every_file_has_a_line_and_a_row(folder, tmp_path, capsys):
  assert predict(folder, tmp_path / 'out') == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == f'{folder}/0.png  War 1.00  Drama 0.00  Western 0.00'
  assert len(lines) == 10 + 2
  rows = rows_of(tmp_path / 'out' / 'predictions.csv')
  assert rows[0] == ['poster', *GENRES, 'predicted_genres']
  assert [row[0] for row in rows[1:]] == [
    f'{folder}/{number}.png' for number in range(10)
  ]
  assert float(rows[3][1]) == pytest.approx(50 / 255, abs=1e-6)
  assert rows[1][-1] == 'War'
  with Image.open(tmp_path / 'out' / 'contact_sheet.png') as sheet:
    assert sheet.size[0] > 6 * 180


def test_unreadable_files_are_listed(folder, tmp_path, capsys):
  (folder / '3.png').write_bytes(b'no image')
  os.mkfifo(folder / '7.jpg')
  assert predict(folder, tmp_path / 'out') == 1
  printed = capsys.readouterr().err
  assert f'error: {folder}/3.png: not an image' in printed
  assert f'error: {folder}/7.jpg: not a file' in printed
  assert '2 file(s) could not be read' in printed
  scored = rows_of(tmp_path / 'out' / 'predictions.csv')[1:]
  unreadable = rows_of(tmp_path / 'out' / 'unreadable.csv')
  assert unreadable[0] == ['file', 'reason']
  assert len(scored) + len(unreadable) - 1 == 11
  # Without them, the list of the earlier run is deleted.
  (folder / '3.png').unlink()
  (folder / '7.jpg').unlink()
  assert predict(folder, tmp_path / 'out') == 0
  assert not (tmp_path / 'out' / 'unreadable.csv').exists()


def test_printed_lines(folder, capsys):
  (folder / 'broken.png').write_bytes(b'no image')
  paths = [str(folder / name) for name in ('8.png', 'broken.png')]

  def run(*values):
    line_format = image_report.LineFormat(*values)
    status = image_report.predict(
      Predictor(), paths, output=None, batch_size=3, line_format=line_format
    )
    assert status == 1
    return capsys.readouterr()

  printed = run(2, 0.5)
  assert printed.out == f'{paths[0]}  Drama 0.78\n'
  assert f'error: {paths[1]}: not an image' in printed.err
  first, second = map(json.loads, run(2, 0.0, True).out.splitlines())
  assert first == {
    'file': paths[0],
    'genres': {'Drama': 0.7843, 'Western': 0.3922},
  }
  assert second['file'] == paths[1]
  assert 'not an image' in second['error']
