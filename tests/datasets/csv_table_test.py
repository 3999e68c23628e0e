"""Tests of parsing CSV files into cells."""

from etils import epath
import pytest

from genre_flax.datasets.posters import csv_table
from genre_flax.runtime import errors


def _read(tmp_path, content):
  path = epath.Path(tmp_path) / 'posters.csv'
  if isinstance(content, str):
    content = content.encode()
  path.write_bytes(content)
  return csv_table.read(path)


def test_cells_are_text_with_the_row_numbers_of_a_spreadsheet(tmp_path):
  table = _read(tmp_path, 'Id,Year\n007,1.50\nNA,\n')
  assert table.columns == ('Id', 'Year')
  assert dict(table.rows()) == {
    2: {'Id': '007', 'Year': '1.50'},
    3: {'Id': 'NA', 'Year': ''},
  }
  assert table.problems == []


@pytest.mark.parametrize(
  ('content', 'encoding', 'name'),
  [
    ('Id,Genre\ntt1,Comédie\n'.encode(), 'utf-8', 'Comédie'),
    ('Id,Genre\ntt1,Comédie\n'.encode('utf-8-sig'), 'utf-8', 'Comédie'),
    ('Id,Genre\ntt1,Comédie\n'.encode('latin-1'), 'latin-1', 'Comédie'),
    (b'Id,Genre\r\ntt1,Drama\r\n', 'utf-8', 'Drama'),
    (b'Id,Genre\rtt1,Drama\r', 'utf-8', 'Drama'),
    (b'Id,Genre\ntt1,Drama', 'utf-8', 'Drama'),
    (b'Id, Genre\ntt1, "Drama"\n', 'utf-8', 'Drama'),
  ],
  ids=['utf-8', 'bom', 'latin-1', 'crlf', 'cr', 'no last newline', 'blanks'],
)
def test_encodings_and_line_endings(tmp_path, content, encoding, name):
  table = _read(tmp_path, content)
  assert table.encoding == encoding
  assert table.columns == ('Id', 'Genre')
  assert dict(table.rows()) == {2: {'Id': 'tt1', 'Genre': name}}


def test_quoted_cells_with_commas_quotes_and_newlines(tmp_path):
  table = _read(tmp_path, 'Id,Title\r\na,"x, ""y""\r\nz"\r\nb,5" w\r\n')
  assert dict(table.rows())[2]['Title'] == 'x, "y"\nz'
  # A cell with a newline is in one row, as in a spreadsheet.
  assert dict(table.rows())[3] == {'Id': 'b', 'Title': '5" w'}


def test_blank_rows_are_numbered_but_skipped(tmp_path):
  table = _read(tmp_path, '\nId,Genre\n\na,Drama\n,\n \nb,Action\n\n')
  assert [row for row, _ in table.rows()] == [4, 7]


def test_missing_cells_are_empty_and_trailing_commas_ignored(tmp_path):
  table = _read(tmp_path, 'Id,"A\n  genre"\na\nb,Drama,\nc,War,,\n')
  assert [cells for _, cells in table.rows()] == [
    {'Id': 'a', 'A genre': ''},
    {'Id': 'b', 'A genre': 'Drama'},
    {'Id': 'c', 'A genre': 'War'},
  ]


@pytest.mark.parametrize(
  ('row', 'kind', 'reason'),
  [
    ('a,Action, Drama', 'too many cells', '3 cells, the header 2 names'),
    ('a,"Action "or" Drama"', 'broken quotes', ''),
  ],
)
def test_a_row_with_other_cells_is_a_problem(tmp_path, row, kind, reason):
  table = _read(tmp_path, f'Id,Genre\n{row}\nb,Drama\n')
  [problem] = table.problems
  assert (problem.row, problem.kind) == (2, kind)
  assert reason in problem.reason
  assert dict(table.rows()) == {3: {'Id': 'b', 'Genre': 'Drama'}}


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    ('', ['is empty', 'header']),
    ('\n,\n', ['is empty', 'header']),
    ('Id,Genre\n', ['no rows']),
    ('Id,Genre\n,\n\n', ['no rows']),
    (b'\xff\xfeI\0d\0', ['zero bytes', 'UTF-16', 'CSV in UTF-8']),
    ('Id,Genre,Genre\na,b,c\n', ["['Genre']", 'more than once']),
    ('Id;Genre\na;b\n', ["'Id;Genre'", "';'", 'expected commas']),
    ('Id\tGenre\na\tb\n', ["'\\t'", 'expected commas']),
    # The quote of row 3 opens in line 4, and its cell extends to line 6.
    ('Id,Genre\n"a\n",b\nc,"d\ne,f\ng,h\n', ['row 3', 'line 4', 'line 6']),
    ('"Id"x,Genre\na,b\n', ['row 1', 'header', 'quotes']),
  ],
)
def test_invalid_files_are_refused(tmp_path, content, words):
  with pytest.raises(errors.InputError) as error:
    _read(tmp_path, content)
  for word in ['posters.csv', *words]:
    assert word in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
  folder = epath.Path(tmp_path)
  with pytest.raises(errors.InputError, match='There is no CSV file .*none'):
    csv_table.read(folder / 'none.csv')
  with pytest.raises(errors.InputError, match='is a folder'):
    csv_table.read(folder)
