"""Tests of finding and scoring image files."""

import os

from etils import epath
import numpy as np
import pytest

from genre_flax.datasets.posters import synthetic
from genre_flax.inference import image_files
from genre_flax.runtime import errors


@pytest.fixture
def posters(tmp_path):
  """A folder with five files, the third of which is not an image."""
  _, folder = synthetic.write_posters(tmp_path, num_posters=5, seed=3)
  (folder / 'synthetic00002.jpg').write_text('<html></html>')
  return folder


def test_find_walks_folders_and_recognizes_contents(posters, caplog):
  (posters / 'deep').mkdir()
  (posters / 'synthetic00001.jpg').rename(posters / 'deep' / 'b')
  for name in ('notes.txt', '._c.jpg', '.hidden/a.jpg', '__MACOSX/d.jpg'):
    (posters / name).parent.mkdir(exist_ok=True)
    (posters / name).write_text('no image')
  os.mkfifo(posters / 'pipe')
  names = [file.name for file in image_files.find([str(posters)])]
  assert sorted(names) == [
    'b',
    'synthetic00000.jpg',
    'synthetic00002.jpg',
    'synthetic00003.jpg',
    'synthetic00004.jpg',
  ]
  assert 'skipped 2 file(s) that are not JPEG, PNG' in caplog.text
  assert 'BMP: notes.txt, pipe.' in caplog.text


def test_find_follows_links_once(posters):
  (posters / 'deep').mkdir()
  os.symlink(posters, posters / 'deep' / 'up')
  os.symlink(posters / 'loop', posters / 'loop')
  assert len(image_files.find([str(posters)])) == 5


def test_folder_without_images_is_rejected(tmp_path):
  with pytest.raises(errors.InputError, match='There is no image in'):
    image_files.find([str(tmp_path)])


def test_unreadable_files_have_an_error(trained_predictor, posters):
  files = image_files.find([str(posters), str(posters / 'nothing.jpg')])
  results = list(
    image_files.predict_files(trained_predictor, files, batch_size=2)
  )
  assert [result.path for result in results] == files
  is_readable = [result.error is None for result in results]
  assert is_readable == [True, True, False, True, True, False]
  assert 'HTML' in results[2].error
  assert 'no such file' in results[5].error


def test_scores_match_those_of_the_split(trained_predictor, dataset, tmp_path):
  predictions = trained_predictor.evaluate_split(dataset, 'test', batch_size=8)
  scores = trained_predictor.calibration.to_scores(predictions.logits)
  records = dataset.open_split('test')
  files = []
  for i in range(3):
    files.append(epath.Path(tmp_path) / f'{i}.jpg')
    files[i].write_bytes(records[i].image)
  results = image_files.predict_files(trained_predictor, files, batch_size=2)
  np.testing.assert_allclose(
    [result.scores for result in results], scores[:3], atol=1e-6
  )
