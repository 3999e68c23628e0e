"""Tests of the search for images under other names."""

import shlex
import unicodedata

from etils import epath
import pytest

from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import image_search
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import sources
from tests.support import pictures


def test_a_single_image_of_the_name_is_found(tmp_path):
  folder = epath.Path(tmp_path)
  content = pictures.encode(pictures.red(), 'PNG')
  nfd = unicodedata.normalize('NFD', 'é')
  for name in ('a.PNG', 'b', f'{nfd}.jpg_large', 'c.png', 'c.gif', '._a.jpg'):
    (folder / name).write_bytes(content)
  for name in ('a.json', 'd.txt'):
    (folder / name).write_text('no image')
  finder = image_search.Finder()
  for name, found in (('a', 'a.PNG'), ('b', 'b'), ('é', f'{nfd}.jpg_large')):
    assert finder.check(folder, f'{name}.jpg', max_side=None)[0] == found
  assert len(finder.found) == 3
  for name, reason in (
    ('c', r'c\.gif; there is c\.png'),
    ('d', 'no such file$'),
  ):
    with pytest.raises(images.BadImageError, match=reason):
      finder.check(folder, f'{name}.jpg', max_side=None)


def _flags(tmp_path, table, names):
  folder = epath.Path(tmp_path) / 'images'
  for name in names:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(pictures.encode(pictures.red(), 'JPEG'))
  csv = epath.Path(tmp_path) / 'posters.csv'
  csv.write_text(table)
  source = sources.Source(csv, folder)
  flags = shlex.split(image_search.find_flags(source))
  return dict(flag.removeprefix('--').split('=') for flag in flags)


@pytest.mark.parametrize(
  ('cell', 'file', 'pattern'),
  [
    ('{0}', 'tt{0:07d}.jpg', 'tt{id:07d}.jpg'),
    ('{0}.0', 'tt{0:07d}.jpg', 'tt{id:07d}.jpg'),
    ('{0}.0', '{0}.jpg', '{id:d}.jpg'),
    ('tt{0:07d}', '{0}.png', '{id:d}.png'),
    ('tt{0}', 'a/tt{0}.jpg', 'a/{id}.jpg'),
    ('x{0}', 'poster_x{0}.jpg', 'poster_x{id:d}.jpg'),
  ],
)
def test_patterns_are_found_for_ids(tmp_path, cell, file, pattern):
  rows = ''.join(f'{cell.format(i)},Drama,0\n' for i in range(1, 13))
  names = [file.format(i) for i in range(1, 13)]
  assert _flags(tmp_path, f'Id,Genre,Zero\n{rows}', names) == {
    'id_column': 'Id',
    'image_pattern': pattern,
  }


def test_other_columns_are_found(tmp_path):
  names = [f'b/{name}.jpg' for name in 'xyz']
  table = 'Id,Genre,Path,Key,Same\n' + ''.join(
    f'{i},Drama,{name},k{name[2]},x\n' for i, name in enumerate(names)
  )
  assert _flags(tmp_path, table, names) == {'image_column': 'Path'}
  names = [f'k{name}.jpg' for name in 'xyz']
  assert _flags(tmp_path / 'other', table, names) == {
    'id_column': 'Key',
    'image_pattern': '{id}.jpg',
  }


def test_no_flags_find_other_images(tmp_path):
  table = 'Id,Genre\na,Drama\nb,../x.jpg\n'
  assert _flags(tmp_path, table, ['x.jpg', 'y.jpg']) == {}


def test_an_id_without_a_number_is_refused():
  assert columns.image_path('a{id:03d}.jpg', 'tt7.0') == 'a007.jpg'
  for film_id in ('seven', '7a', '7_8', ''):
    with pytest.raises(ValueError, match='expects a number'):
      columns.image_path('{id:d}.jpg', film_id)
