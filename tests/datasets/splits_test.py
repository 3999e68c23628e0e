"""Tests of the assignment of posters to splits."""

import hashlib
import types

import pytest

from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.datasets.posters import splits
from genre_flax.runtime import errors

_SHARES = {'train': 80, 'validation': 10, 'test': 10}
# By `printf ID | sha256sum`, which starts with 4f (31 % of 100), cd0a (80.1 %)
# and ee (93 %).
_TRAIN, _VALIDATION, _TEST = 'tt0084867', 'g', 'tt0000013'


def _row(name, split=None):
  return rows_lib.Annotation(
    name, f'{name}.jpg', ('Drama',), split, 'posters.csv', 2
  )


def _assign(rows, contents):
  return splits.assign(rows, contents, shares=_SHARES)


def test_shares_are_parsed():
  assert splits.parse_shares('80,10,10') == _SHARES
  assert list(splits.parse_shares(' 70, 0 ,30 ').values()) == [70, 0, 30]


@pytest.mark.parametrize(
  'text',
  ['', '80,20', '80,10,10,0', '80,10,9', '110,-10,0', '80.5,9.5,10', 'a,b,c'],
)
def test_invalid_shares_are_refused(text):
  with pytest.raises(errors.InputError) as error:
    splits.parse_shares(text)
  message = str(error.value)
  assert message.startswith(f'--splits={text}: expected three whole percent')
  assert 'train, validation, test' in message


@pytest.mark.parametrize('name', [_TRAIN, _VALIDATION, _TEST, 'é', ''])
def test_the_hash_is_the_first_eight_bytes_of_sha256(name):
  # The same rule in integers: a fraction of 2**64.
  value = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)
  expected = 'test'
  if value * 100 < 80 * 2**64:
    expected = 'train'
  elif value * 100 < 90 * 2**64:
    expected = 'validation'
  assert splits.by_hash(name, _SHARES) == expected


@pytest.mark.parametrize(
  ('content', 'expected'), [(b'\0' * 32, 'train'), (b'\xff' * 32, 'test')]
)
def test_the_smallest_and_largest_hash(monkeypatch, content, expected):
  result = types.SimpleNamespace(digest=lambda: content)
  monkeypatch.setattr(splits.hashlib, 'sha256', lambda name: result)
  assert splits.by_hash('tt1', _SHARES) == expected
  only_validation = {'train': 0, 'validation': 100, 'test': 0}
  assert splits.by_hash('tt1', only_validation) == 'validation'


def test_added_posters_move_no_others():
  rows = [_row(f'tt{number}') for number in range(200)]
  contents = [row.id for row in rows]
  before = _assign(rows[::2], contents[::2])
  assert _assign(rows, contents)[::2] == before
  assert len(set(before)) == 3


@pytest.mark.parametrize(
  ('rows', 'contents', 'expected'),
  [
    # Posters with equal images get the split of the first one.
    ([_row(_TRAIN), _row(_TEST)], 'xy', ['train', 'test']),
    ([_row(_TRAIN), _row(_TEST)], 'xx', ['train', 'train']),
    ([_row(_TEST), _row(_TRAIN)], 'xx', ['test', 'test']),
    # The split column wins over the hash, also for equal images.
    ([_row(_TRAIN, 'test'), _row(_TEST, 'train')], 'xy', ['test', 'train']),
    ([_row('g', 'test'), _row(_TRAIN)], 'xx', ['test', 'test']),
    ([_row(_TRAIN), _row('g', 'test')], 'xx', ['test', 'test']),
    # Equal images with different splits keep them; the data card lists them.
    ([_row('a', 'train'), _row('b', 'test')], 'xx', ['train', 'test']),
    # Posters of a film are in one split, even if another film has the image.
    (
      [_row(_TRAIN), _row(_TEST), _row(_TRAIN), _row(_TEST)],
      'abbc',
      ['train', 'test', 'train', 'test'],
    ),
    # The split of one row holds for the whole film.
    ([_row(_TRAIN), _row(_TRAIN, 'test')], 'ab', ['test', 'test']),
  ],
)
def test_films_and_equal_images_share_a_split(rows, contents, expected):
  assert _assign(rows, contents) == expected
