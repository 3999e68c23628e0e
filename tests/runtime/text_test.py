import csv
import io

import pytest

from genre_flax.runtime import text


@pytest.mark.parametrize(
  ('raw', 'shown'),
  [
    ('Amélie 東京 😀', 'Amélie 東京 😀'),
    ('a\nb\tc', r'a\nb\tc'),
    ('\x1b[2J\x9b', r'\x1b[2J\x9b'),
    # A byte of a file name that is no UTF-8.
    ('caf\udce9', r'caf\xe9'),
    # Writes from right to left from here on.
    ('\u202egpj.exe', r'\u202egpj.exe'),
    ('a\u2028b', r'a\u2028b'),
  ],
)
def test_what_is_not_visible_is_escaped(raw, shown):
  assert text.printable(raw) == shown


def test_line_feeds_stay_where_they_are_wanted():
  assert text.printable('a\nb\x1b', keep='\n') == 'a\nb\\x1b'


@pytest.mark.parametrize(
  ('raw', 'cell'),
  [
    ('=cmd()', "'=cmd()"),
    ('+1+1', "'+1+1"),
    ('@SUM(A1)', "'@SUM(A1)"),
    ('-2+3', "'-2+3"),
    ('-5', '-5'),
    ('+0.25', '+0.25'),
    ('tt0113101', 'tt0113101'),
    ('a=b', 'a=b'),
    ('\t=1', r'\t=1'),
    ('', ''),
  ],
)
def test_no_cell_is_a_formula(raw, cell):
  assert text.for_spreadsheet(raw) == cell


def test_quotes_commas_and_line_feeds_survive_a_csv_file():
  table = io.StringIO()
  cells = [text.for_spreadsheet(c) for c in ('a,"b"', 'c\nd', '=x')]
  csv.writer(table).writerow(cells)
  assert next(csv.reader([table.getvalue()])) == ['a,"b"', r'c\nd', "'=x"]


def test_markdown_shows_the_text_and_runs_nothing():
  assert text.for_markdown('<b>|[x](y)`_') == r'\<b\>\|\[x\](y)\`\_'
