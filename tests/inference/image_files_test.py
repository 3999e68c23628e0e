"""Naming genres of files, with a network that is played."""

import csv
import os

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.evaluation import calibration
from genre_flax.inference import image_files
from genre_flax.reports import decisions
from genre_flax.runtime import errors

GENRES = ('Drama', 'War', 'Western')


class Predictor:
  """Scores an image by its first pixel."""

  genres = GENRES
  calibration = calibration.identity(GENRES)
  image_shape = (6, 4)

  def __init__(self, *, fail_after=None):
    self.num_scored = 0
    self._fail_after = fail_after

  def checksum(self):
    return 'a checksum'

  def fit_batch_size(self, batch_size):
    return batch_size

  def predict(self, images, *, batch_size):
    if self._fail_after is not None and self.num_scored >= self._fail_after:
      raise KeyboardInterrupt
    self.num_scored += len(images)
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


def run(folder, output, *, predictor=None, **options):
  return image_files.name_genres(
    predictor or Predictor(),
    [str(folder)],
    output=epath.Path(output),
    batch_size=3,
    **options,
  )


def rows_of(path):
  return list(csv.reader(path.read_text().splitlines()))


def test_every_file_has_a_line_a_row_and_a_picture(folder, tmp_path, capsys):
  assert run(folder, tmp_path / 'out') == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == f'{folder}/0.png  War 1.00  Drama 0.00  Western 0.00'
  assert len(lines) == 10 + 3
  rows = rows_of(tmp_path / 'out' / 'predictions.csv')
  assert rows[0] == ['poster', *GENRES]
  assert [row[0] for row in rows[1:]] == [
    f'{folder}/{number}.png' for number in range(10)
  ]
  assert float(rows[3][1]) == pytest.approx(50 / 255, abs=1e-6)
  decided = rows_of(tmp_path / 'out' / 'decisions.csv')
  assert [row[0] for row in decided[1:]] == [row[0] for row in rows[1:]]
  assert decided[1][1] == 'War'
  with Image.open(tmp_path / 'out' / 'contact_sheet.png') as sheet:
    assert sheet.size[0] > 6 * 180


def test_a_stop_keeps_the_rows_and_resume_goes_on(folder, tmp_path, capsys):
  run(folder, tmp_path / 'whole')
  capsys.readouterr()
  with pytest.raises(KeyboardInterrupt):
    run(folder, tmp_path / 'out', predictor=Predictor(fail_after=6))
  assert '6 rows are in' in capsys.readouterr().err
  assert not (tmp_path / 'out' / 'predictions.csv').exists()
  predictor = Predictor()
  assert run(folder, tmp_path / 'out', predictor=predictor, resume=True) == 0
  assert predictor.num_scored == 4
  for name in ('predictions.csv', 'decisions.csv', 'contact_sheet.png'):
    whole = (tmp_path / 'whole' / name).read_bytes()
    assert (tmp_path / 'out' / name).read_bytes() == whole


def test_a_stop_while_it_decides_scores_nothing_again(
  folder, tmp_path, capsys, monkeypatch
):
  def stop(*args, **kwargs):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(decisions, '_decide', stop)
    with pytest.raises(KeyboardInterrupt):
      run(folder, tmp_path / 'out')
  assert '10 rows are in' in capsys.readouterr().err
  predictor = Predictor()
  assert run(folder, tmp_path / 'out', predictor=predictor, resume=True) == 0
  assert predictor.num_scored == 0
  assert len(rows_of(tmp_path / 'out' / 'decisions.csv')) == 11


def test_rows_in_are_rows_out_and_files_told(folder, tmp_path, capsys):
  (folder / '3.png').write_bytes(b'no image')
  os.mkfifo(folder / '7.jpg')
  assert run(folder, tmp_path / 'out') == 1
  told = capsys.readouterr().err
  assert f'error: {folder}/3.png: not an image' in told
  assert f'error: {folder}/7.jpg: not a file' in told
  assert '2 file(s) could not be read' in told
  scored = rows_of(tmp_path / 'out' / 'predictions.csv')[1:]
  unreadable = rows_of(tmp_path / 'out' / 'unreadable.csv')
  assert unreadable[0] == ['file', 'reason']
  assert len(scored) + len(unreadable) - 1 == 11
  # Mended, it is tried again, and the list of those that are not is gone.
  (folder / '3.png').unlink()
  (folder / '7.jpg').unlink()
  assert run(folder, tmp_path / 'out') == 0
  assert not (tmp_path / 'out' / 'unreadable.csv').exists()


@pytest.mark.parametrize(
  ('name', 'shown'),
  [
    (b'a\nb.png', r'a\nb.png'),
    (b'\x1b[2J.png', r'\x1b[2J.png'),
    (b'caf\xe9.png', r'caf\xe9.png'),
    (b'<script>.png', '<script>.png'),
    (b'"quoted", twice.png', '"quoted", twice.png'),
  ],
)
def test_names_of_all_kinds(folder, tmp_path, capsys, name, shown):
  for path in list(folder.iterdir())[1:]:
    path.unlink()
  [path] = folder.iterdir()
  os.rename(path, os.path.join(os.fsencode(folder), name))
  assert run(folder, tmp_path / 'out') == 0
  assert capsys.readouterr().out.startswith(f'{folder}/{shown}  ')
  assert rows_of(tmp_path / 'out' / 'predictions.csv')[1][0] == (
    f'{folder}/{shown}'
  )


def test_links_that_lead_back_are_followed_once(folder):
  (folder / 'deep').mkdir()
  (folder / 'deep' / 'up').symlink_to(folder)
  (folder / 'loop').symlink_to(folder / 'loop')
  found = image_files.find([str(folder)])
  assert [file.name for file in found] == [f'{n}.png' for n in range(10)]


def test_a_file_that_is_named_twice_has_two_rows(folder, tmp_path):
  image_files.name_genres(
    Predictor(),
    [str(folder / '1.png')] * 2,
    output=epath.Path(tmp_path / 'out'),
    batch_size=3,
  )
  assert len(rows_of(tmp_path / 'out' / 'predictions.csv')) == 3


def test_an_output_that_cannot_be_made_is_told_first(folder, tmp_path):
  (tmp_path / 'file').write_text('')
  predictor = Predictor()
  with pytest.raises(errors.StorageError, match='file/out'):
    run(folder, tmp_path / 'file' / 'out', predictor=predictor)
  assert predictor.num_scored == 0
