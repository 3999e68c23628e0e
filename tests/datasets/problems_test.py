"""Tests of the lists of problems."""

import csv
import io

from genre_flax.datasets.posters import problems


def _problem(row, kind='missing image', reason='there is no such file'):
  return problems.Problem('posters.csv', row, kind, reason)


def test_kinds_are_counted_and_sorted_by_frequency():
  found = [_problem(row, kind) for row, kind in enumerate('bcac', start=2)]
  counts = problems.count_by_kind(found)
  assert list(counts.items()) == [('c', 2), ('a', 1), ('b', 1)]
  assert problems.count_by_kind([]) == {}


def test_a_summary_has_counts_and_the_first_ten_problems():
  found = [_problem(row) for row in range(2, 14)]
  found.append(_problem(14, 'no genre', 'expected at least one genre'))
  assert problems.summarize(found).split('\n') == [
    '13 problem(s):',
    '      12  missing image',
    '       1  no genre',
    'The first 10:',
  ] + [
    f'  posters.csv, row {row}: there is no such file' for row in range(2, 12)
  ]
  assert problems.summarize([_problem(2)]).split('\n')[2:] == [
    '  posters.csv, row 2: there is no such file'
  ]


def test_escape_sequences_and_formulas_are_escaped():
  reason = 'column "Genre" is [\'Drama\', \'War\'],\na\x1b[2Jb and "é"'
  hostile = problems.Problem('=cmd().csv', 2, 'bad', reason)
  assert 'a\\x1b[2Jb' in problems.summarize([hostile])
  text = problems.to_csv([_problem(2), hostile])
  assert list(csv.reader(io.StringIO(text))) == [
    ['file', 'row', 'kind', 'reason'],
    ['posters.csv', '2', 'missing image', 'there is no such file'],
    [
      "'=cmd().csv",
      '2',
      'bad',
      reason.replace('\n', '\\n').replace('\x1b', '\\x1b'),
    ],
  ]
