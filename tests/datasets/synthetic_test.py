"""Tests of the synthetic posters."""

import csv
import hashlib
import io

import numpy as np
from PIL import Image

from genre_flax.datasets.posters import synthetic
from tests.support import programs


def _hash(indices, seed=0):
  digest = hashlib.sha256()
  for index in indices:
    image, genres = synthetic.draw_poster(index, seed=seed)
    digest.update(image.tobytes())
    digest.update(repr(genres).encode())
  return digest.hexdigest()


def test_posters_are_different_images_with_one_to_three_genres():
  for index in range(20):
    image, genres = synthetic.draw_poster(index)
    assert (image.mode, image.size) == ('RGB', (160, 240))
    assert 1 <= len(genres) <= 3
    assert list(genres) == sorted(set(genres))
    assert set(genres) <= set(synthetic.GENRES)
    # More than the noise, with a standard deviation of 8 levels.
    assert np.asarray(image, float).std() > 20
    # Credits at the lower edge, on an even ground of one color and noise.
    gray = np.asarray(image.convert('L'), float)
    assert gray[214:236].std() > 15
    assert gray[214:236, :12].std() < 10
  hashes = {_hash([index], seed) for index in range(4) for seed in range(3)}
  assert len(hashes) == 12


def test_posters_are_the_same_in_another_process():
  # Letters depend on the version of FreeType, so no pixels are given here.
  # Hashes of strings differ between processes and must not matter.
  program = (
    'from tests.datasets import synthetic_test as t;'
    ' print(t._hash([4, 5], seed=3))'
  )
  found = programs.run_code(program, PYTHONHASHSEED='7')
  # Here in another order, since posters do not depend on earlier ones.
  _hash([5], seed=3)
  assert found.stdout.strip() == _hash([4, 5], seed=3)


def test_a_collection_is_a_csv_and_a_folder_of_jpegs(tmp_path):
  csv_file, folder = synthetic.write_posters(
    tmp_path / 'new' / 'folder', num_posters=3, seed=5
  )
  rows = list(csv.DictReader(io.StringIO(csv_file.read_text())))
  assert len(rows) == len(list(folder.iterdir())) == 3
  for index, row in enumerate(rows):
    expected, genres = synthetic.draw_poster(index, seed=5)
    assert row['Genre'] == '|'.join(genres)
    for name in synthetic.GENRES:
      assert row[name] == str(int(name in genres))
    with Image.open(folder / f'{row["Id"]}.jpg') as image:
      error = np.asarray(image, float) - np.asarray(expected, float)
    assert np.abs(error).mean() < 3
