"""Tests of which poster is in which split."""

import collections
import hashlib

import pytest

from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.datasets.posters import splits
from genre_flax.runtime import errors

_SHARES = {'train': 80, 'validation': 10, 'test': 10}


def _row(name, split=None):
  return rows_lib.Annotation(
    id=name,
    image=f'{name}.jpg',
    genres=('Drama',),
    split=split,
    file='posters.csv',
    row=2,
  )


def _first_id(split, *, start=0):
  """The first id of the form tt<number> that the hash puts into `split`."""
  number = start
  while splits.by_hash(f'tt{number}', _SHARES) != split:
    number += 1
  return f'tt{number}'


def test_default_shares_are_80_10_10():
  assert splits.DEFAULT_SHARES == _SHARES


@pytest.mark.parametrize(
  ('text', 'shares'),
  [
    ('80,10,10', (80, 10, 10)),
    (' 70, 0 ,30 ', (70, 0, 30)),
    ('100,0,0', (100, 0, 0)),
  ],
)
def test_shares_are_read(text, shares):
  names = ('train', 'validation', 'test')
  parsed = splits.parse_shares(text)
  assert list(parsed.items()) == list(zip(names, shares, strict=True))


@pytest.mark.parametrize(
  'text',
  ['', '80,20', '80,10,10,0', '80,10,9', '110,-10,0', '80.5,9.5,10', 'a,b,c'],
)
def test_shares_that_are_no_three_percentages_of_100_are_refused(text):
  with pytest.raises(errors.InputError) as error:
    splits.parse_shares(text)
  message = str(error.value)
  assert message.startswith(f'--splits={text}: expected three whole percent')
  assert 'train, validation, test' in message
  assert 'such as 80,10,10' in message


@pytest.mark.parametrize('name', ['tt0084867', 'é', ''])
def test_the_hash_rule_is_the_first_eight_bytes_of_sha256(name):
  # Worked out another way: as a fraction of 2**64, against percentiles.
  value = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)
  expected = 'test'
  if value * 100 < 80 * 2**64:
    expected = 'train'
  elif value * 100 < 90 * 2**64:
    expected = 'validation'
  assert splits.by_hash(name, _SHARES) == expected


def test_these_films_never_move():
  # By `printf ID | sha256sum`, of which the first bytes are 4f (31 % of 100),
  # cd0a (80.1 %) and ee (93 %).
  known = {'tt0084867': 'train', 'g': 'validation', 'tt0000013': 'test'}
  assert {name: splits.by_hash(name, _SHARES) for name in known} == known


def test_the_hash_gives_each_split_its_share():
  names = [f'tt{number:07d}' for number in range(10000)]
  counts = collections.Counter(splits.by_hash(name, _SHARES) for name in names)
  # The standard deviation of a share of 10 % of 10000 is 30, of 80 % it is 40.
  assert abs(counts['train'] - 8000) < 200
  assert abs(counts['validation'] - 1000) < 150
  assert abs(counts['test'] - 1000) < 150


def test_a_split_without_a_share_gets_no_poster():
  shares = {'train': 50, 'validation': 0, 'test': 50}
  names = [f'tt{number}' for number in range(1000)]
  assert {splits.by_hash(name, shares) for name in names} == {'train', 'test'}
  all_train = {'train': 100, 'validation': 0, 'test': 0}
  assert {splits.by_hash(name, all_train) for name in names} == {'train'}


@pytest.mark.parametrize('digest', [b'\xff' * 32, b'\0' * 32])
def test_the_ends_of_the_hash_are_in_the_outer_splits(monkeypatch, digest):
  class Digest:
    def __init__(self, content):
      del content

    def digest(self):
      return digest

  monkeypatch.setattr(splits.hashlib, 'sha256', Digest)
  expected = 'train' if digest[0] == 0 else 'test'
  assert splits.by_hash('tt1', _SHARES) == expected
  middle = {'train': 0, 'validation': 100, 'test': 0}
  assert splits.by_hash('tt1', middle) == 'validation'


def test_adding_posters_moves_none():
  rows = [_row(f'tt{number}') for number in range(200)]
  contents = [row.id for row in rows]
  before = splits.assign(rows[::2], contents[::2], shares=_SHARES)
  after = splits.assign(rows, contents, shares=_SHARES)
  assert after[::2] == before
  assert len(set(before)) == 3


def test_images_with_the_same_bytes_fall_in_the_same_split():
  train, test = _first_id('train'), _first_id('test')
  rows = [_row(train), _row(test)]
  assert splits.assign(rows, ['x', 'y'], shares=_SHARES) == ['train', 'test']
  assert splits.assign(rows, ['x', 'x'], shares=_SHARES) == ['train', 'train']
  assert splits.assign(rows[::-1], ['x', 'x'], shares=_SHARES) == ['test'] * 2


def test_a_copy_that_is_appended_does_not_move_the_earlier_poster():
  train, test = _first_id('train'), _first_id('test')
  rows = [_row(test), _row(train)]
  assert splits.assign(rows, ['x', 'x'], shares=_SHARES)[0] == 'test'


def test_the_split_of_the_csv_wins_over_the_hash():
  name = _first_id('train')
  rows = [_row(name, 'test'), _row(_first_id('test'), 'validation')]
  assert splits.assign(rows, ['x', 'y'], shares=_SHARES) == [
    'test',
    'validation',
  ]


@pytest.mark.parametrize('order', [1, -1])
def test_the_split_of_the_csv_takes_equal_images_with_it(order):
  other = _first_id('train', start=1000)
  rows = [_row(_first_id('train'), 'test'), _row(other)][::order]
  assert splits.assign(rows, ['x', 'x'], shares=_SHARES) == ['test', 'test']


def test_equal_images_with_splits_of_their_own_keep_them():
  # The data card tells about these.
  rows = [_row('a', 'train'), _row('b', 'test')]
  assert splits.assign(rows, ['x', 'x'], shares=_SHARES) == ['train', 'test']


def test_every_row_needs_a_hash():
  with pytest.raises(ValueError, match='shorter'):
    splits.assign([_row('a'), _row('b')], ['x'], shares=_SHARES)


def test_a_further_poster_of_a_film_goes_where_the_film_is():
  train, test = _first_id('train'), _first_id('test')
  rows = [_row(train), _row(test), _row(train), _row(test)]
  # The third poster has the picture of the other film: the film wins.
  contents = ['a', 'b', 'b', 'c']
  assert splits.assign(rows, contents, shares=_SHARES) == [
    'train',
    'test',
    'train',
    'test',
  ]


def test_the_split_of_one_row_holds_for_the_whole_film():
  train = _first_id('train')
  rows = [_row(train), _row(train, 'test')]
  assert splits.assign(rows, ['a', 'b'], shares=_SHARES) == ['test', 'test']
