"""Tests of the roles of the columns of a CSV file."""

from etils import epath
import pytest

from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import csv_table
from genre_flax.runtime import errors


def _find(tmp_path, text, **given):
  path = epath.Path(tmp_path) / 'posters.csv'
  path.write_text(text)
  return columns.find(csv_table.read(path), columns.Columns(**given))


@pytest.mark.parametrize(
  'header',
  ['Id,Genre', 'imdbId,genres', 'movie_id,GENRES', ' ID , Genre ']
  + ['movieId,genres', 'tconst,listed_in'],
)
def test_default_column_names(tmp_path, header):
  found = _find(tmp_path, f'{header}\na,Drama\n')
  names = [name.strip() for name in header.split(',')]
  assert [found.id, found.genre] == names
  assert (found.labels, found.image, found.split) == ((), '', '')


def test_given_names_win_over_default_names(tmp_path):
  found = _find(
    tmp_path,
    'Id,Genre,film,kinds,file\n1,x,a,Drama,a.png\n',
    id='film',
    genre='kinds',
    image='file',
  )
  assert (found.id, found.genre, found.image) == ('film', 'kinds', 'file')


def test_paths_of_images_replace_ids(tmp_path):
  text = 'file_name,Genre\na.png,Drama\n'
  found = _find(tmp_path, text)
  assert (found.id, found.image) == ('', 'file_name')
  text = text.replace('G', 'Id,G').replace('D', '7,D')
  assert _find(tmp_path, text).image == 'file_name'
  assert _find(tmp_path, text, image_pattern='{id}.gif').image == ''


@pytest.mark.parametrize(
  ('text', 'given', 'labels', 'ignored'),
  [
    # Two of three cells of Drama are 0 or 1; the x is a problem of its row.
    (
      'Id,Drama,Year,Action,Notes\na,0,1999, 1,\nb,1.0,2,0,0\nc,x,2,0,\n',
      {},
      ('Drama', 'Action'),
      ('Year', 'Notes'),
    ),
    # One of two cells.
    ('Id,Genre,Votes\na,x,1\nb,x,7\n', {}, (), ('Votes',)),
    # An index of the rows without a name.
    (',Id,Drama,Split\n0,a,1,test\n1,b,0,test\n', {}, ('Drama',), ()),
    (
      'Id,War,SF,Year\na,True,,\nb,FALSE, 1,1\nc,true,,2\n',
      {},
      ('War', 'SF'),
      ('Year',),
    ),
    # Drama has no poster; other columns that are in no list are no genres.
    (
      'Id,Genre,isAdult,War,Drama,SF,Color\na,SF|War,1,1,0,1,1\n',
      {},
      ('War', 'Drama', 'SF'),
      ('isAdult', 'Color'),
    ),
    ('Id,Genre,isAdult\na,SF,0\n', {}, (), ('isAdult',)),
    ('Id,War,Adult\na,1,0\nb,3,0\n', {'labels': ['War']}, ('War',), ('Adult',)),
  ],
)
def test_columns_of_0_and_1_are_labels(tmp_path, text, given, labels, ignored):
  found = _find(tmp_path, text, **given)
  assert (found.labels, found.ignored) == (labels, ignored)
  # With a note, if they are columns of 0 and 1.
  assert [', '.join(ignored) in one for one in found.notes] == (
    [True] if 'isAdult' in ignored else []
  )


@pytest.mark.parametrize(
  ('header', 'given', 'words'),
  [
    ('Name,Genre', {}, ['no id column', "['Name', 'Genre']", '--id_column']),
    ('Id,Kind', {}, ['genre list', '--genre_column', '--label_columns']),
    ('Id,Genre', {'id': 'id'}, ["no column 'id'", "['Id', 'Genre']"]),
    ('Id,Genre', {'genre': 'kind'}, ["no column 'kind'"]),
    ('Id,Genre', {'split': 'fold'}, ["no column 'fold'"]),
    ('Id,Genre', {'image': 'file'}, ["no column 'file'"]),
    ('Id,Genre', {'labels': ('War',)}, ["no column 'War'"]),
  ],
)
def test_the_error_for_a_missing_column_names_the_others(
  tmp_path, header, given, words
):
  with pytest.raises(errors.InputError) as error:
    _find(tmp_path, f'{header}\na,x\n', **given)
  for word in ['posters.csv', *words]:
    assert word in str(error.value)
