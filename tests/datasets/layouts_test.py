"""Tests of label tables of folders without a CSV file."""

import json

from etils import epath
from PIL import Image
import pytest

from genre_flax.datasets.posters import annotations
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import layouts
from genre_flax.runtime import errors

_COLORS = ('red', 'green', 'blue', 'gray', 'black', 'white')


@pytest.fixture
def folder(tmp_path):
  return epath.Path(tmp_path) / 'images'


def _write(folder, **colors_or_text):
  """Writes a JPEG of a color, or a text, by path."""
  for name, content in colors_or_text.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if content in _COLORS:
      path.write_bytes(images.to_jpeg(Image.new('RGB', (8, 12), content)))
    else:
      path.write_text(content)


def _rows(folder, layout=layouts.AUTO, **options):
  found = annotations.read_csv(folder, layout=layout, **options)
  assert found.problems == []
  return [
    (row.id, row.image, list(row.genres), row.split) for row in found.rows
  ]


def test_a_folder_per_genre(folder):
  _write(
    folder,
    **{'Sci-Fi, B/a.jpg': 'red', 'Drama/b.JFIF': 'blue', 'Drama/x/c': 'gray'},
    **{'Drama/notes.txt': 'no image', '__MACOSX/Drama/b.jpg': '', '.x/y': ''},
  )
  assert _rows(folder) == [
    ('Drama/b', 'Drama/b.JFIF', ['Drama'], None),
    ('Drama/x/c', 'Drama/x/c', ['Drama'], None),
    ('Sci-Fi, B/a', 'Sci-Fi, B/a.jpg', ['Sci-Fi, B'], None),
  ]


def test_copies_in_two_folders_of_genres_are_one_poster(folder):
  _write(folder, **{'War/a.jpg': 'red', 'War/b.jpg': 'blue'})
  _write(folder, **{'Drama/a.jpg': 'red', 'Drama/c.jpg': 'blue'})
  _write(folder, **{'War/d.jpg': 'gray'})
  both = ['Drama', 'War']
  expected = [
    ('Drama/a', 'Drama/a.jpg', both, None),
    ('Drama/c', 'Drama/c.jpg', both, None),
    ('War/d', 'War/d.jpg', ['War'], None),
  ]
  assert _rows(folder) == expected
  # Of the same name, and another image.
  _write(folder, **{'Drama/d.jpg': 'black'})
  expected.insert(2, ('Drama/d', 'Drama/d.jpg', ['Drama'], None))
  assert _rows(folder) == expected


def test_folders_of_splits(folder):
  _write(folder, **{'train/War/1.jpg': 'red', 'valid/War/1.jpg': 'blue'})
  assert _rows(folder) == [
    ('train/War/1', 'train/War/1.jpg', ['War'], 'train'),
    ('valid/War/1', 'valid/War/1.jpg', ['War'], 'validation'),
  ]
  for split in ('train', 'valid'):
    text = 'file_name,genres\nWar/1.jpg,Drama\n'
    _write(folder, **{f'{split}/metadata.csv': text})
  assert _rows(folder)[1] == (
    *('valid/War/1', 'valid/War/1.jpg', ['Drama'], 'validation'),
  )
  assert _rows(folder, layout='image_folder')[1][2] == ['War']


@pytest.mark.parametrize(
  ('name', 'text'),
  [
    ('metadata.csv', "file_name,genres\n1.jpg,\"['Drama', 'War']\"\n"),
    ('metadata.jsonl', '{"file_name": "1.jpg", "genres": ["War", "Drama"]}\n'),
  ],
)
def test_metadata_of_hugging_face(folder, name, text):
  _write(folder, **{'1.jpg': 'red', name: text})
  assert _rows(folder) == [('1', '1.jpg', ['Drama', 'War'], None)]


def test_json_files_beside_images(folder):
  films = {
    '0001': {'genres': ['Drama', 'War'], 'title': 'x', 'year': 1994},
    '2': {'genres': ['Drama'], 'split': 'test', 'year': None},
  }
  for name, film in films.items():
    _write(folder, **{f'{name}.jpeg': 'red', f'{name}.json': json.dumps(film)})
  given = columns.Columns(extra=('year',))
  rows = annotations.read_csv(folder, layout='auto', columns=given).rows
  assert [(row.id, row.image, row.genres, row.split) for row in rows] == [
    ('0001', '0001.jpeg', ('Drama', 'War'), None),
    ('2', '2.jpeg', ('Drama',), 'test'),
  ]
  assert [row.extra for row in rows] == [('1994',), ('',)]
  _write(folder, **{'2.json': '{"genres": '})
  with pytest.raises(errors.InputError, match=r'2\.json is not a JSON file'):
    _rows(folder)


def test_other_folders_are_refused(folder):
  _write(folder, **{'1.jpg': 'red'})
  with pytest.raises(errors.InputError, match='=auto: expected metadata'):
    _rows(folder)
  _write(folder, **{'War/2.jpg': 'red'})
  with pytest.raises(errors.InputError, match=r'folder of a genre, got 1\.jpg'):
    _rows(folder)


def test_splits_in_the_names_of_metadata(folder):
  _write(folder, **{'train/1.jpg': 'red', 'test/1.jpg': 'blue'})
  text = 'file_name,genres\ntrain/1.jpg,War\ntest/1.jpg,Drama\n'
  _write(folder, **{'metadata.csv': text})
  assert [(row[1], row[3]) for row in _rows(folder)] == [
    ('train/1.jpg', 'train'),
    ('test/1.jpg', 'test'),
  ]


@pytest.mark.parametrize(
  ('files', 'words'),
  [
    ({'train/War/1.jpg': 'red', 'extra/War/1.jpg': 'blue'}, 'others: extra'),
    ({'train/War/1.jpg': 'red', 'test/1.jpg': 'blue'}, 'not in test'),
  ],
)
def test_incomplete_splits_are_refused(folder, files, words):
  _write(folder, **files)
  with pytest.raises(errors.InputError, match=words):
    _rows(folder)


def test_json_files_of_splits_have_ids_of_their_own(folder):
  for split in ('train', 'test'):
    film = {f'{split}/1.json': '{"genres": ["War"]}', f'{split}/1.jpg': 'red'}
    _write(folder, **film)
  assert [row[0] for row in _rows(folder)] == ['test/1', 'train/1']
