"""Text of all kinds, by Hypothesis: told in words, no row lost."""

import csv
import io
import sys
import tempfile

from absl import flags
from etils import epath
import hypothesis
from hypothesis import strategies as st
from ml_collections import config_flags
import pytest

from configs import default
from genre_flax import config as config_lib
from genre_flax.datasets.posters import annotations
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import genre_lists
from genre_flax.datasets.posters import sources
from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import text
from tests.faults import outcomes as outcomes_lib

GROUP = 'text of all kinds'
LENGTHS = pytest.mark.parametrize(
  'max_examples',
  [60, pytest.param(10_000, marks=[pytest.mark.drill, pytest.mark.slow])],
)
CELLS = st.one_of(
  st.sampled_from(['a', 'b', 'c', 'Drama', 'War', 'Drama|War', '0', '1']),
  st.text(max_size=12),
  st.sampled_from(
    [
      *('tt1', 'tt2', '../x', '/etc/passwd', 'C:\\x', 'a/b', '', ' '),
      *('Drama', 'Drama|War', "['Drama', 'War']", "['Drama' 'War']", '[1]'),
      *('0', '1', '0.0', '1.0', '2', 'NaN', 'N/A', 'train', 'test', 'dev'),
      *('=cmd()', '\x1b[2J', '"', "'", ',', '\n', '\r\n', '\ufeff'),
      *('(' * 300, '{' * 50, '__import__("os")', '9' * 400),
    ]
  ),
)
HEADERS = st.lists(
  st.sampled_from(
    [
      'Id',
      'imdb_id',
      'Genre',
      'Genres',
      'Split',
      'Drama',
      'War',
      'x',
      '',
      'Id ',
    ]
  ),
  min_size=1,
  max_size=6,
)
ENCODINGS = ('utf-8', 'utf-8-sig', 'latin-1', 'utf-16', 'cp1252')


def try_many(strategy, max_examples, check):
  """Runs a check on examples; the same ones every time."""

  @hypothesis.settings(
    max_examples=max_examples,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategy)
  def run(value):
    check(value)

  run()


@st.composite
def csv_files(draw):
  """The bytes of a CSV file, sound or not, with the flags that go with it."""
  header = draw(st.one_of(HEADERS, st.just(['Id', 'Genre', 'Drama', 'War'])))
  rows = draw(st.lists(st.lists(CELLS, max_size=len(header) + 2), max_size=8))
  table = io.StringIO()
  dialect = {'lineterminator': draw(st.sampled_from(['\n', '\r\n', '\r']))}
  if draw(st.booleans()):
    csv.writer(table, **dialect).writerows([header, *rows])
  else:  # As people write them, without quotes.
    for row in [header, *rows]:
      table.write(','.join(row) + dialect['lineterminator'])
  encoding = draw(st.sampled_from(['utf-8', 'utf-8', *ENCODINGS]))
  content = table.getvalue().encode(encoding, 'replace')
  if draw(st.integers(0, 9)) == 0:
    content = content[: draw(st.integers(0, len(content)))]
  return content


@LENGTHS
def test_csv_files(max_examples):
  outcomes = outcomes_lib.Outcomes('CSV files', group=GROUP)
  given = columns.Columns()

  def check(content):
    with tempfile.TemporaryDirectory() as folder:
      path = epath.Path(folder) / 'posters.csv'
      path.write_bytes(content)
      try:
        found = annotations.read_csv(path, columns=given)
      except errors.InputError as e:
        assert 'posters.csv' in str(e)
        outcomes['refused by name'] += 1
        return
    # Rows in are rows out and rows told.
    assert found.num_rows == (
      len(found.rows)
      + len({problem.row for problem in found.problems})
      + found.num_repeated
      + found.num_excluded
    )
    for row in found.rows:
      assert row.id
      assert '/' not in row.id
      assert row.genres
      assert set(row.genres) <= set(found.genres)
    outcomes['read, every row accounted for'] += 1

  try_many(csv_files(), max_examples, check)
  outcomes.done()


@LENGTHS
def test_lists_of_genres(max_examples):
  outcomes = outcomes_lib.Outcomes('lists of genres', group=GROUP)

  def check(cell):
    try:
      names = genre_lists.parse_genres(cell)
    except ValueError as e:
      assert 'expected' in str(e)
      outcomes['refused by name'] += 1
      return
    assert list(names) == sorted(set(names))
    assert all(name == ' '.join(name.split()) != '' for name in names)
    outcomes['read'] += 1

  brackets = st.text(alphabet='[](){}\'",|;/ abN', max_size=40)
  try_many(st.one_of(CELLS, brackets), max_examples, check)
  outcomes.done()


@LENGTHS
def test_genre_names(max_examples):
  outcomes = outcomes_lib.Outcomes('files of genre names', group=GROUP)

  def check(content):
    with tempfile.TemporaryDirectory() as folder:
      path = epath.Path(folder) / 'names.txt'
      path.write_bytes(content)
      try:
        names = sources.read_genre_names(path)
      except errors.InputError as e:
        assert 'names.txt' in str(e)
        outcomes['refused by name'] += 1
        return
    assert not set(names) & set(names.values())
    outcomes['read'] += 1

  lines = st.lists(
    st.text(alphabet='ab= #\n\r\x00\x1bé', max_size=12), max_size=5
  )
  content = st.one_of(
    lines.map(lambda parts: '\n'.join(parts).encode()), st.binary(max_size=60)
  )
  try_many(content, max_examples, check)
  outcomes.done()


VALUES = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(),
  st.floats(),
  st.text(max_size=8),
  st.lists(st.integers(-3, 3), max_size=3),
  st.sampled_from(['os:system', 'builtins:eval', '9' * 50, '../..', '\0']),
)


@LENGTHS
def test_configs(max_examples):
  outcomes = outcomes_lib.Outcomes('values of a config', group=GROUP)
  flat = list(config_lib._RULES)

  def check(changes):
    config = default.get_config()
    config.dataset.data_dir = 'data'
    with config.unlocked():
      for key, value in changes.items():
        *parents, name = key.split('.')
        place = config
        for parent in parents:
          place = place[parent]
        # Past the check of its type: a file of a stranger has none.
        object.__getattribute__(place, '_fields')[name] = value
    try:
      config_lib.validate(config)
    except errors.InputError as e:
      assert 'must be' in str(e) or 'config.' in str(e)
      outcomes['refused by name'] += 1
      return
    outcomes['accepted'] += 1

  changes = st.dictionaries(st.sampled_from(flat), VALUES, max_size=3)
  try_many(changes, max_examples, check)
  outcomes.done()
  assert outcomes['refused by name'] > max_examples / 4


@LENGTHS
def test_overrides(max_examples, monkeypatch):
  outcomes = outcomes_lib.Outcomes('overrides on a command line', group=GROUP)
  keys = list(config_lib._RULES)
  words = st.one_of(
    st.text(max_size=10),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
      ['None', 'True', '()', '(1,', "('a',", '[[]]', '1e999', '9' * 5000]
      + ['{', '__import__("os")', '1_0', '0x10', '(' * 200, '-', '1j', '"']
    ),
  )

  def check(given):
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
      'config', flag_values=values, lock_config=True
    )
    argv = ['program', '--config=configs/default.py']
    argv += [f'--config.{key}={value}' for key, value in given]
    sys.argv[:] = argv  # ml_collections looks for overrides there.
    try:
      values(argv)
      config = holder.value
      config.dataset.data_dir = 'data'
      config_lib.validate(config)
    except command_line._PARSE_ERRORS as e:
      assert command_line._explain(e)
      outcomes['refused by name'] += 1
      return
    outcomes['accepted'] += 1

  overrides = st.lists(
    st.tuples(st.sampled_from([*keys, 'seeed', '', 'model']), words),
    min_size=1,
    max_size=2,
  )
  monkeypatch.setattr(sys, 'argv', [])
  try_many(overrides, max(40, max_examples // 5), check)
  outcomes.done()
  assert outcomes['refused by name']
  assert outcomes['accepted']


@LENGTHS
def test_what_is_shown(max_examples):
  outcomes = outcomes_lib.Outcomes('text that is shown', group=GROUP)

  def check(name):
    shown = text.printable(name)
    assert shown.isprintable()
    shown.encode()  # No half characters are left.
    cell = text.for_spreadsheet(name)
    assert cell.isprintable()
    assert not cell.startswith(('=', '@')), cell
    table = io.StringIO()
    csv.writer(table).writerow([cell, 'next'])
    assert next(csv.reader([table.getvalue()])) == [cell, 'next']
    markdown = text.for_markdown(name)
    assert '<' not in markdown.replace('\\<', '')
    outcomes['harmless'] += 1

  characters = st.characters(exclude_categories=())
  names = st.text(alphabet=characters, max_size=20)
  bytes_of_names = st.binary(max_size=20).map(
    lambda b: b.decode('utf-8', 'surrogateescape')
  )
  try_many(st.one_of(names, bytes_of_names, CELLS), max_examples, check)
  outcomes.done()
