"""Tests of drawing posters."""

import collections
import csv
import hashlib
import io
import os
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from genre_flax.datasets.posters import synthetic
from tests.support import paths

_GENRES = (
  'Action',
  'Adventure',
  'Animation',
  'Comedy',
  'Crime',
  'Documentary',
  'Drama',
  'Fantasy',
  'Horror',
  'Romance',
  'Sci-Fi',
  'Western',
)


def _digest(indices, seed=0):
  digest = hashlib.sha256()
  for index in indices:
    image, genres = synthetic.draw_poster(index, seed=seed)
    digest.update(image.tobytes())
    digest.update(repr(genres).encode())
  return digest.hexdigest()


def test_there_are_a_dozen_genres():
  assert tuple(sorted(synthetic.GENRES)) == _GENRES


@pytest.mark.parametrize('index', range(20))
def test_a_poster_is_an_image_with_one_to_three_genres(index):
  image, genres = synthetic.draw_poster(index)
  assert (image.mode, image.size) == ('RGB', (160, 240))
  assert 1 <= len(genres) <= 3
  assert list(genres) == sorted(set(genres))
  assert set(genres) <= set(_GENRES)
  # There is something to see: more than the noise of 14 levels.
  assert np.asarray(image, float).std() > 20


def test_another_process_draws_the_same_posters():
  # The pixels depend on the versions of numpy and FreeType, so none are given
  # here. Hashes of strings differ between processes and must not matter.
  program = (
    'from tests.datasets import synthetic_test as t;'
    ' print(t._digest(range(6), seed=3))'
  )
  found = subprocess.run(
    [sys.executable, '-c', program],
    check=True,
    capture_output=True,
    cwd=paths.ROOT,
    env={**os.environ, 'PYTHONHASHSEED': '7'},
    text=True,
  )
  assert found.stdout.strip() == _digest(range(6), seed=3)


def test_posters_do_not_depend_on_what_was_drawn_before():
  image, genres = synthetic.draw_poster(5)
  synthetic.draw_poster(4)
  again, same = synthetic.draw_poster(5)
  assert image.tobytes() == again.tobytes()
  assert genres == same


def test_index_and_seed_make_other_posters():
  digests = {_digest([index], seed) for index in range(4) for seed in range(3)}
  assert len(digests) == 12


def test_frequent_genres_are_frequent():
  rng = synthetic.random.Random(0)
  drawn = [synthetic._draw_genres(rng) for _ in range(2000)]
  sizes = collections.Counter(map(len, drawn))
  # 30, 40 and 30 %; the standard deviation of these counts is about 21.
  for size, expected in ((1, 600), (2, 800), (3, 600)):
    assert abs(sizes[size] - expected) < 100
  counts = collections.Counter(name for names in drawn for name in names)
  assert set(counts) == set(_GENRES)
  # By the weights 6, 5 and 1 to 3 of the others.
  assert [name for name, _ in counts.most_common(2)] == ['Drama', 'Comedy']


def test_a_collection_is_a_csv_and_a_folder_of_jpegs(tmp_path):
  csv_file, folder = synthetic.write_posters(
    tmp_path / 'new' / 'folder', num_posters=3, seed=5
  )
  rows = list(csv.DictReader(io.StringIO(csv_file.read_text())))
  assert [row['Id'] for row in rows] == [
    'synthetic00000',
    'synthetic00001',
    'synthetic00002',
  ]
  assert sorted(path.name for path in folder.iterdir()) == [
    f'{row["Id"]}.jpg' for row in rows
  ]
  for index, row in enumerate(rows):
    drawn, genres = synthetic.draw_poster(index, seed=5)
    assert row['Genre'] == '|'.join(genres)
    one_hot = {name: row[name] for name in _GENRES}
    assert one_hot == {name: str(int(name in genres)) for name in _GENRES}
    with Image.open(
      io.BytesIO((folder / f'{row["Id"]}.jpg').read_bytes())
    ) as i:
      assert (i.format, i.mode) == ('JPEG', 'RGB')
      error = np.asarray(i, float) - np.asarray(drawn, float)
    assert np.abs(error).mean() < 3
