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
  'header', ['Id,Genre', 'imdbId,genres', 'movie_id,GENRES', ' ID , Genre ']
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


def test_columns_of_0_and_1_are_labels(tmp_path):
  found = _find(
    tmp_path,
    'Id,Drama,Year,Action,Split,Notes\n'
    'a,0,1999, 1,train,\n'
    'b,1.0,2000,0,test,0\n'
    'c,x,2001,0,test,\n',
  )
  # Two of three cells of Drama are 0 or 1; the x is a problem of its row.
  assert found.labels == ('Drama', 'Action')
  assert found.ignored == ('Year', 'Notes')
  assert found.split == 'Split'


def test_columns_with_half_of_0_and_1_are_not_labels(tmp_path):
  found = _find(tmp_path, 'Id,Genre,Votes\na,x,1\nb,x,7\n')
  assert found.labels == ()


def test_an_unnamed_row_index_is_not_a_label(tmp_path):
  found = _find(
    tmp_path,
    ',Id,Drama,Genre,Split,File\n0,a,1,x,test,y\n1,b,0,x,test,z\n',
    image='File',
  )
  assert found.labels == ('Drama',)
  assert found.ignored == ()


def test_given_label_columns(tmp_path):
  found = _find(
    tmp_path, 'Id,Drama,Adult,War\na,1,0,3\nb,1,0,4\n', labels=('Drama', 'War')
  )
  assert found.labels == ('Drama', 'War')
  assert found.ignored == ('Adult',)


@pytest.mark.parametrize(
  ('text', 'given', 'words'),
  [
    (
      'Name,Genre\na,x\n',
      {},
      ['no id column', "['Name', 'Genre']", '--id_column'],
    ),
    (
      'Id,Kind\na,x\n',
      {},
      ['genre list', 'one-hot', '--genre_column', '--label_columns'],
    ),
    ('Id,Genre\na,x\n', {'id': 'id'}, ["no column 'id'", "['Id', 'Genre']"]),
    ('Id,Genre\na,x\n', {'genre': 'kind'}, ["no column 'kind'"]),
    ('Id,Genre\na,x\n', {'image': 'file'}, ["no column 'file'"]),
    ('Id,Genre\na,x\n', {'labels': ('War',)}, ["no column 'War'"]),
  ],
)
def test_the_error_for_a_missing_column_names_the_others(
  tmp_path, text, given, words
):
  with pytest.raises(errors.InputError) as error:
    _find(tmp_path, text, **given)
  for word in ['posters.csv', *words]:
    assert word in str(error.value)
