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
    ('caf\udce9', r'caf\xe9'),  # A byte of a file name that is not UTF-8.
    ('\u202egpj.exe', r'\u202egpj.exe'),  # Right-to-left override.
    ('a\u2028b', r'a\u2028b'),
  ],
)
def test_invisible_characters_are_escaped(raw, shown):
  assert text.printable(raw) == shown


@pytest.mark.parametrize(
  ('raw', 'cell'),
  [
    ('=cmd()', "'=cmd()"),
    ('+1+1', "'+1+1"),
    ('@SUM(A1)', "'@SUM(A1)"),
    ('-2+3', "'-2+3"),
    ('-5', '-5'),
    ('+0.25', '+0.25'),
    ('a=b', 'a=b'),
    ('\t=1', r'\t=1'),
    ('', ''),
    ('a,"b"', 'a,"b"'),
    ('c\nd', r'c\nd'),
  ],
)
def test_a_cell_is_not_a_formula_and_survives_csv(raw, cell):
  assert text.for_spreadsheet(raw) == cell
  table = io.StringIO()
  csv.writer(table).writerow([cell, 'x'])
  assert next(csv.reader([table.getvalue()])) == [cell, 'x']


def test_markup_is_escaped_for_markdown():
  assert text.for_markdown('<b>|[x](y)`_') == r'\<b\>\|\[x\](y)\`\_'


def test_join_first():
  assert text.join_first(['a', 'b'], limit=2) == 'a, b'
  assert text.join_first(['a', 'b', 'c', 'd'], limit=2) == 'a, b and 2 more'
