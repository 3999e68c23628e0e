"""Arbitrary text by Hypothesis: read, or refused with a message."""

import csv
import gzip
import io
import json
import sys

from absl import flags
from etils import epath
import hypothesis
from hypothesis import strategies as st

from configs import default
from genre_flax import config as config_lib
from genre_flax import config_files
from genre_flax import config_validation
from genre_flax.datasets.posters import annotations
from genre_flax.datasets.posters import columns
from genre_flax.datasets.posters import genre_lists
from genre_flax.datasets.posters import sources
from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import text
from tests.faults import trainings

MAX_EXAMPLES = trainings.short_and_long('max_examples', 25, 10_000)
CELLS = st.one_of(
  st.sampled_from(['a', 'b', 'c', 'Drama', 'War', 'Drama|War', '0', '1']),
  st.text(max_size=12),
  st.sampled_from(
    [
      *('tt1', 'tt2', '../x', '/etc/passwd', 'C:\\x', 'a/b', '', ' '),
      *('Drama', 'Drama|War', "['Drama', 'War']", "['Drama' 'War']", '[1]'),
      *('[{"name": "War"}]', '{"a": "War"}', 'War，Drama', '&#68;rama&#44;'),
      *('(no genres listed)', r'\N', 'TRUE', 'False', 'nan', '&nan;', '[null]'),
      *('0', '1', '0.0', '1.0', '2', 'NaN', 'N/A', 'train', 'test', 'dev'),
      *('=cmd()', '\x1b[2J', '"', "'", ',', '\n', '\r\n', '\ufeff'),
      *('(' * 300, '{' * 50, '__import__("os")', '9' * 400),
    ]
  ),
)
COLUMNS = 'Id', 'imdb_id', 'Genre', 'Genres', 'Split', 'Drama', 'War', 'x', ''
HEADERS = st.lists(
  st.sampled_from([*COLUMNS, 'Id ']),
  min_size=1,
  max_size=6,
)
ENCODINGS = ('utf-8', 'utf-8-sig', 'latin-1', 'utf-16', 'cp1252')


def check_many(strategy, max_examples, check):
  """Calls a function with examples, the same ones each time.

  Args:
    strategy: of Hypothesis.
    max_examples: number of examples.
    check: returns whether the example was accepted.

  Returns:
    The number of accepted examples, and the number of refused ones.
  """
  counts = [0, 0]

  @hypothesis.settings(
    max_examples=max_examples,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategy)
  def run(value):
    counts[not check(value)] += 1

  run()
  return counts


@st.composite
def tables(draw):
  """The bytes of delimited text or JSON lines, valid or not."""
  header = draw(st.one_of(HEADERS, st.just(['Id', 'Genre', 'Drama', 'War'])))
  rows = draw(st.lists(st.lists(CELLS, max_size=len(header) + 2), max_size=8))
  table = io.StringIO()
  end = draw(st.sampled_from(['\n', '\r\n', '\r']))
  separator = draw(st.sampled_from([*',,,;|\t', '::']))
  kind = draw(st.sampled_from(['csv', 'csv', 'text', 'text', 'json']))
  table.write(draw(st.sampled_from(['', '', '', f'sep={separator}{end}'])))
  if kind == 'csv':
    writer = csv.writer(table, delimiter=separator[0], lineterminator=end)
    writer.writerows([header, *rows])
  elif kind == 'text':  # Without quotes.
    for row in [header, *rows]:
      table.write(separator.join(row) + end)
  else:
    for row in rows:
      table.write(json.dumps(dict(zip(header, row, strict=False))) + end)
  encoding = draw(st.sampled_from(['utf-8', 'utf-8', *ENCODINGS]))
  content = table.getvalue().encode(encoding, 'replace')
  if draw(st.integers(0, 9)) == 0:
    content = content[: draw(st.integers(0, len(content)))]
  return gzip.compress(content) if draw(st.integers(0, 9)) == 0 else content


@MAX_EXAMPLES
def test_tables(max_examples, tmp_path):
  path = epath.Path(tmp_path) / 'posters.csv'

  def check(content):
    path.write_bytes(content)
    try:
      found = annotations.read_csv(path, columns=columns.Columns())
    except errors.InputError as e:
      assert 'posters.csv' in str(e)
      return False
    # No row is lost.
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
    return True

  check_many(tables(), max_examples, check)


@MAX_EXAMPLES
def test_lists_of_genres(max_examples):
  def check(cell):
    try:
      names = genre_lists.parse_genres(cell)
    except ValueError as e:
      assert 'expected' in str(e)
      return False
    assert list(names) == sorted(set(names))
    assert all(name == ' '.join(name.split()) != '' for name in names)
    return True

  brackets = st.text(alphabet='[](){}\'",|;/ abN', max_size=40)
  check_many(st.one_of(CELLS, brackets), max_examples, check)


@MAX_EXAMPLES
def test_genre_names(max_examples, tmp_path):
  path = epath.Path(tmp_path) / 'names.txt'

  def check(content):
    path.write_bytes(content)
    try:
      names = sources.read_genre_names(path)
    except errors.InputError as e:
      assert 'names.txt' in str(e)
      return False
    assert not set(names) & set(names.values())
    return True

  lines = st.lists(
    st.text(alphabet='ab= #\n\r\x00\x1bé', max_size=12), max_size=5
  )
  content = st.one_of(
    lines.map(lambda parts: '\n'.join(parts).encode()), st.binary(max_size=60)
  )
  check_many(content, max_examples, check)


VALUES = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(),
  st.floats(),
  st.text(max_size=8),
  st.lists(st.integers(-3, 3), max_size=3),
  st.sampled_from(['os:system', 'builtins:eval', '9' * 50, '../..', '\0']),
)


@MAX_EXAMPLES
def test_configs(max_examples):
  def check(changes):
    config = default.get_config()
    config.dataset.data_dir = 'data'
    with config.unlocked():
      for key, value in changes.items():
        *parents, name = key.split('.')
        place = config_lib.get(config, '.'.join(parents)) if parents else config
        # Without the type check: a file has none.
        object.__getattribute__(place, '_fields')[name] = value
    try:
      config_validation.validate(config)
    except errors.InputError as e:
      assert 'must be' in str(e) or 'config.' in str(e)
      return False
    return True

  keys = list(config_validation._RULES)
  changes = st.dictionaries(st.sampled_from(keys), VALUES, max_size=3)
  _, num_refused = check_many(changes, max_examples, check)
  assert num_refused > max_examples / 4


@MAX_EXAMPLES
def test_overrides(max_examples, monkeypatch):
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
    holder = config_files.define_flag(values)
    argv = ['program', '--config=configs/default.py']
    argv += [f'--config.{key}={value}' for key, value in given]
    sys.argv[:] = argv  # ml_collections reads overrides from it.
    try:
      values(argv)
      config = holder.value
      config.dataset.data_dir = 'data'
      config_validation.validate(config)
    except command_line.PARSE_ERRORS as e:
      assert command_line.explain(e)
      return False
    return True

  keys = [*config_validation._RULES, 'seeed', '', 'model']
  overrides = st.lists(
    st.tuples(st.sampled_from(keys), words), min_size=1, max_size=2
  )
  monkeypatch.setattr(sys, 'argv', [])
  counts = check_many(overrides, max(40, max_examples // 5), check)
  assert all(counts)


@MAX_EXAMPLES
def test_displayed_text(max_examples):
  def check(name):
    printable = text.printable(name)
    assert printable.isprintable()
    printable.encode()  # Without surrogates.
    cell = text.for_spreadsheet(name)
    assert cell.isprintable()
    assert not cell.startswith(('=', '@')), cell
    table = io.StringIO()
    csv.writer(table).writerow([cell, 'next'])
    assert next(csv.reader([table.getvalue()])) == [cell, 'next']
    markdown = text.for_markdown(name)
    assert '<' not in markdown.replace('\\<', '')
    return True

  characters = st.characters(exclude_categories=())
  names = st.text(alphabet=characters, max_size=20)
  file_names = st.binary(max_size=20).map(
    lambda b: b.decode('utf-8', 'surrogateescape')
  )
  check_many(st.one_of(names, file_names, CELLS), max_examples, check)
