"""Tests of parsing tables into cells."""

import gzip
import sys

from etils import epath
import pytest

from genre_flax.datasets.posters import csv_table
from genre_flax.runtime import errors


def _read(tmp_path, content, **options):
  path = epath.Path(tmp_path) / 'posters.csv'
  if isinstance(content, str):
    content = content.encode()
  path.write_bytes(content)
  return csv_table.read(path, **options)


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
    ('Id,Genre\ntt1,Comédie\n'.encode('utf-16'), 'utf-16', 'Comédie'),
    ('Id,Genre\ntt1,Café – d’été\n'.encode('cp1252'), 'cp1252', 'Café – d’été'),
    (gzip.compress(b'Id,Genre\ntt1,Drama\n', mtime=0), 'utf-8', 'Drama'),
    (b'Id,Genre\r\ntt1,Drama\r\n', 'utf-8', 'Drama'),
    (b'Id,Genre\rtt1,Drama\r', 'utf-8', 'Drama'),
    (b'Id,Genre\ntt1,Drama', 'utf-8', 'Drama'),
    (b'Id, Genre\ntt1, "Drama"\n', 'utf-8', 'Drama'),
  ],
  ids=['utf-8', 'bom', 'utf-16', 'cp1252', 'gzip', 'crlf', 'cr']
  + ['no last newline', 'blanks'],
)
def test_encodings_and_line_endings(tmp_path, content, encoding, name):
  table = _read(tmp_path, content)
  assert table.format == encoding
  assert table.columns == ('Id', 'Genre')
  assert dict(table.rows()) == {2: {'Id': 'tt1', 'Genre': name}}


@pytest.mark.parametrize(
  ('separator', 'content'),
  [
    (';', '\ufeffId;Genre\r\n1;"Horror, War"\r\n2;Drama|War\r\n'),
    ('\t', 'Id\tGenre\n1\tHorror, War\n2\tDrama|War\n'),
    ('|', 'Id|Genre\n1|Horror, War\n2|"Drama|War"\n'),
    (';', 'sep=;\r\nId;Genre\r\n1;Horror, War\r\n2;Drama|War\r\n'),
    ('::', 'Id::Genre\n1::Horror, War\n2::Drama|War\n'),
    # The header has more commas than semicolons.
    (';', 'Id;Genre (or, with, commas)\n1;Horror, War\n2;Drama|War\n'),
  ],
)
def test_separators_are_found(tmp_path, separator, content):
  table = _read(tmp_path, content)
  assert table.format == f'utf-8, separator {separator!r}'
  rows = {row: list(cells.values()) for row, cells in table.rows()}
  assert rows == {2: ['1', 'Horror, War'], 3: ['2', 'Drama|War']}


def test_quoted_cells_beside_a_loose_quote(tmp_path):
  text = 'Id\tTitle\tGenre\na\t6" Deep\t"Action, ""Drama"""\n'
  [(_, cells)] = _read(tmp_path, text).rows()
  assert cells == {'Id': 'a', 'Title': '6" Deep', 'Genre': 'Action, "Drama"'}


def test_a_given_separator_wins(tmp_path):
  table = _read(tmp_path, 'Id,x;Genre\na,1;War\n', separator=';')
  assert dict(table.rows()) == {2: {'Id,x': 'a,1', 'Genre': 'War'}}


def test_tables_of_imdb_and_movielens(tmp_path):
  # Quotes are part of the text.
  text = 'tconst\tTitle\tgenres\ntt1\t"A" B\tWar\ntt2\t"C\tDrama\n'
  rows = dict(_read(tmp_path, text).rows())
  assert list(rows[2].values()) == ['tt1', '"A" B', 'War']
  assert list(rows[3].values()) == ['tt2', '"C', 'Drama']
  # Without a header.
  text = '1::A: B, The (1995)::War|Drama\n2::"C"::War\n'
  [(row, cells), _] = _read(tmp_path, text).rows()
  assert (row, cells) == (
    1,
    {'movieId': '1', 'title': 'A: B, The (1995)', 'genres': 'War|Drama'},
  )


def test_json_lines(tmp_path):
  text = (
    '{"id": 7, "x": null}\n\n[1]\n{"id": "08", "genres": ["War", "Été"]}\n{'
  )
  table = _read(tmp_path, text)
  assert (table.format, table.columns) == ('JSON lines', ('id', 'x', 'genres'))
  assert dict(table.rows()) == {
    1: {'id': '7', 'x': '', 'genres': ''},
    4: {'id': '08', 'x': '', 'genres': '["War", "Été"]'},
  }
  assert [(one.row, one.kind) for one in table.problems] == [
    (3, 'bad JSON'),
    (5, 'bad JSON'),
  ]
  assert 'expected a JSON object in each line' in table.problems[0].reason


def test_parquet(tmp_path, monkeypatch):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  path = epath.Path(tmp_path) / 'posters.parquet'
  columns = {'Id': ['007', 'b'], 'Year': [1999, None], 'Genre': [['War'], []]}
  parquet.write_table(pyarrow.table(columns), path)
  assert dict(csv_table.read(path).rows()) == {
    1: {'Id': '007', 'Year': '1999', 'Genre': '["War"]'},
    2: {'Id': 'b', 'Year': '', 'Genre': '[]'},
  }
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(errors.InputError, match='posters.parquet cannot be read'):
    csv_table.read(path)
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  with pytest.raises(
    errors.InputError, match=r'needs pyarrow: .*\.\[parquet\]'
  ):
    csv_table.read(path)


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
    (b'I\0d\0', ['zero bytes', 'UTF-16', 'CSV in UTF-8']),
    (b'Id,Genre\na,\xe9\nb,\x81\n', ['line 3', '0x81', 'cp1252']),
    (
      'Id,Genre\na,\xe9t\xe9\nb,'.encode() + b'\xe9\n',
      ['line 3', '0xe9', 'UTF-8'],
    ),
    (gzip.compress(b'Id,Genre\na,War\n', mtime=0)[:-9], ['cannot be read']),
    ('{"id"\n', ['row 1', 'expected a JSON object']),
    ('Id,Genre,Genre\na,b,c\n', ["['Genre']", 'more than once']),
    # The quote of row 3 opens in line 4, and its cell extends to line 6.
    ('Id,Genre\n"a\n",b\nc,"d\ne,f\ng,h\n', ['row 3', 'line 4', 'line 6']),
    ('"Id"x,Genre\na,b\n', ['row 1', 'line 1', 'quote']),
  ],
)
def test_invalid_files_are_refused(tmp_path, content, words):
  with pytest.raises(errors.InputError) as error:
    _read(tmp_path, content)
  for word in ['posters.csv', *words]:
    assert word in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
  folder = epath.Path(tmp_path)
  with pytest.raises(errors.InputError, match=r'none.csv .*: there is no such'):
    csv_table.read(folder / 'none.csv')
  with pytest.raises(errors.InputError, match='it is a folder'):
    csv_table.read(folder)
