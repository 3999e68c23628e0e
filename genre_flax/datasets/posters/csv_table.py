"""Rows of label tables as text: delimited text, JSON lines and Parquet.

Python's `csv` splits delimited text, since pandas repairs broken quotes
silently and reports no row numbers.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator, Sequence
import csv
import dataclasses
import functools
import gzip
import io
import itertools
import json
import re
from typing import Any
import zlib

from etils import epath

from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

Problem = problems_lib.Problem
# Names of (further) columns, or the cells or the problem of a row, each with
# the row's number.
Rows = Iterator[tuple[int, tuple[str, ...] | dict[str, str] | Problem]]

# Largest file; enough for ten million rows.
MAX_BYTES = 1 << 31
_SEPARATORS = ('::', '\t', ',', ';', '|')
# Separators of tables that may have no quotes, such as those of IMDb.
_UNQUOTED = ('::', '\t')
# The header of MovieLens's movies.dat, which has none.
_MOVIELENS = ('movieId', 'title', 'genres')


@dataclasses.dataclass(frozen=True)
class Table:
  """The cells of a table.

  The file's bytes are kept and parsed again for each pass over the rows, since
  rows as Python objects would take ten times the memory.

  Attributes:
    path: the file.
    format: encoding and separator of the text, or the format's name.
    columns: names in the header, without line breaks; '' for unnamed columns.
    num_rows: rows that match the header.
    problems: the other rows.
    read_rows: reads all rows once.
  """

  path: epath.Path
  format: str
  columns: tuple[str, ...]
  num_rows: int
  problems: list[Problem]
  read_rows: Callable[[], Rows] = dataclasses.field(repr=False)

  def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the number of each row and its cells by column."""
    blank = dict.fromkeys(self.columns, '')
    for row, cells in self.read_rows():
      if isinstance(cells, dict):
        yield row, cells if len(cells) == len(blank) else blank | cells


def read(path: epath.Path, *, separator: str | None = None) -> Table:
  """Reads all cells as text, with the row numbers of a spreadsheet.

  Text may be UTF-8, UTF-16 with a byte order mark, or Windows-1252. JSON lines
  and the rows of Parquet are counted from 1. gzip is decompressed.

  Args:
    path: the table.
    separator: of cells; by default the one that fits the first rows.

  Returns:
    The cells, and the problems of rows that do not match the header.

  Raises:
    InputError: the file is missing, empty or not a table.
  """
  content = _read_content(path)
  if content.startswith(b'PAR1'):
    records = functools.partial(_parquet_records, path, content)
    return _scan(path, 'Parquet', lambda: _record_rows(path, records()))
  encoding = _find_encoding(path, content)

  def open_text():
    # All line endings become \n, also in cells.
    return io.TextIOWrapper(io.BytesIO(content), encoding)

  sample = list(itertools.islice(open_text(), 50))
  if ''.join(sample).lstrip().startswith('{'):
    return _scan(path, 'JSON lines', lambda: _record_rows(path, open_text()))
  # Excel does not count this line.
  marked = re.match(r'"?sep=([^\w"])"?$', ''.join(sample[:1]), re.I)
  separator = separator or (marked and marked[1]) or _find_separator(sample)
  name = encoding.removesuffix('-sig')
  name += '' if separator == ',' else f', separator {separator!r}'

  def read_rows(quoting=csv.QUOTE_MINIMAL):
    lines = itertools.islice(open_text(), 1 if marked else 0, None)
    return _delimited_rows(path, lines, separator, quoting)

  try:
    return _scan(path, name, read_rows)
  except errors.InputError:
    if separator not in _UNQUOTED:
      raise
    return _scan(path, name, functools.partial(read_rows, csv.QUOTE_NONE))


def from_records(
  path: epath.Path, format_name: str, records: Sequence[dict[str, Any]]
) -> Table:
  """Makes a table of values by column; `path` is their origin."""
  return _scan(path, format_name, lambda: _record_rows(path, records))


def _scan(
  path: epath.Path, format_name: str, read_rows: Callable[[], Rows]
) -> Table:
  """Reads all rows once."""
  num_rows, problems, columns = 0, [], []
  for _, cells in read_rows():
    if isinstance(cells, Problem):
      problems.append(cells)
    elif isinstance(cells, tuple):
      columns += cells
    else:
      num_rows += 1
  if not columns and problems:
    raise errors.InputError(
      f'{path}, row {problems[0].row}: {problems[0].reason}.'
    )
  if not columns:
    raise errors.InputError(f'{path} is empty; expected a header and rows.')
  if not num_rows and not problems:
    raise errors.InputError(f'{path} has a header and no rows.')
  return Table(path, format_name, tuple(columns), num_rows, problems, read_rows)


def _read_content(path: epath.Path) -> bytes:
  """The bytes of a file, without compression."""
  try:
    content = regular_files.read(path, max_bytes=MAX_BYTES)
    is_compressed = content.startswith(b'\x1f\x8b')
    return gzip.decompress(content) if is_compressed else content
  except (regular_files.NotReadableError, OSError, EOFError, zlib.error) as e:
    raise errors.InputError(f'{path} cannot be read: {e}.') from None


def _find_encoding(path: epath.Path, content: bytes) -> str:
  is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  if b'\0' in content and not is_utf16:
    raise errors.InputError(
      f'{path} is not a text file: it contains zero bytes, like a spreadsheet,'
      ' or a file in UTF-16 without a byte order mark. Save it as CSV in UTF-8.'
    )
  # utf-8-sig skips a byte order mark.
  encodings = ('utf-16',) if is_utf16 else ('utf-8-sig', 'cp1252')
  for encoding in encodings:
    try:
      content.decode(encoding)
      return encoding
    except UnicodeDecodeError as e:
      start = e.start
      if encoding == 'utf-8-sig' and _is_mostly_utf8(content):
        encodings = ('utf-8',)
        break
  raise errors.InputError(
    f'{path}, line {content.count(10, 0, start) + 1}: byte'
    f' 0x{content[start]:02x} is not {" or ".join(encodings)}; expected text in'
    ' UTF-8.'
  )


def _is_mostly_utf8(content: bytes) -> bool:
  """Whether text is UTF-8 with a few damaged characters."""
  decoded = content.decode('utf-8', 'replace')
  num_valid = len(re.findall('[\x80-\ufffc]', decoded))
  return num_valid > decoded.count('\ufffd')


def _split(lines, separator, **options):
  """A `csv.reader` for separators of one or several characters."""
  delimiter = separator
  if len(separator) > 1:
    delimiter = '\x1f'
    lines = (line.replace(separator, delimiter) for line in lines)
  options['skipinitialspace'] = delimiter != ' '
  return csv.reader(lines, delimiter=delimiter, **options)


def _find_separator(lines: Sequence[str]) -> str:
  """The separator by which most rows have as many cells as the header."""
  scores = {}
  for separator in _SEPARATORS:
    try:
      header, *rows = filter(None, _split(lines, separator))
    except (ValueError, csv.Error):  # ValueError: there is no header.
      continue
    if len(header) > 1:
      scores[separator] = sum(len(row) == len(header) for row in rows)
  return max(scores, key=scores.get, default=',')


def _delimited_rows(
  path: epath.Path, lines: Iterator[str], separator: str, quoting: int
) -> Rows:
  reader = _split(lines, separator, strict=True, quoting=quoting)
  columns = None
  for row in itertools.count(1):
    first_line = reader.line_num + 1
    try:
      cells = next(reader)
    except StopIteration:
      return
    except csv.Error as e:
      is_header = columns is None
      if is_header or separator in _UNQUOTED or reader.line_num > first_line:
        # Skipping this row would lose all rows up to the closing quote.
        raise errors.InputError(
          f'{path}, row {row}: a quote (") opened in line {first_line} is not'
          f' closed correctly; the text up to line {reader.line_num} would be'
          " one cell. Close it, or double it if it is part of the cell's text."
        ) from e
      reason = (
        f'unbalanced quotes: {e}; double each quote (") that is part of a'
        " cell's text"
      )
      yield row, Problem(str(path), row, 'broken quotes', reason)
      continue
    if quoting == csv.QUOTE_NONE:
      cells = [_unquote(cell) for cell in cells]
    if not any(cell.strip() for cell in cells):
      continue  # A blank line, or only separators.
    if columns is None:
      is_header = separator != '::' or not cells[0].isdigit()
      columns = _header(cells, path) if is_header else _MOVIELENS
      yield row, columns
      if is_header:
        continue
    if any(cell.strip() for cell in cells[len(columns) :]):
      reason = (
        f'the row has {len(cells)} cells, the header {len(columns)} names; a'
        f' cell that contains {separator!r}, such as a genre list, needs quotes'
        ' around it'
      )
      yield row, Problem(str(path), row, 'too many cells', reason)
    else:
      yield row, dict(zip(columns, cells, strict=False))


def _unquote(cell: str) -> str:
  """A cell without quotes around it."""
  if len(cell) > 1 and cell[0] == cell[-1] == '"':
    return cell[1:-1].replace('""', '"')
  return cell


def _header(cells: Sequence[str], path: epath.Path) -> tuple[str, ...]:
  """The column names, which must be unique."""
  names = tuple(' '.join(cell.split()) for cell in cells)
  repeated = sorted({name for name in names if name and names.count(name) > 1})
  if repeated:
    raise errors.InputError(
      f'The header of {path} has {repeated} more than once; rename one of the'
      ' columns.'
    )
  return names


def _record_rows(path: epath.Path, records: Iterable[str | dict]) -> Rows:
  """The rows of objects in JSON or as a dictionary."""
  columns = set()
  for row, record in enumerate(records, start=1):
    if not record or record == '\n':
      continue
    try:
      values = json.loads(record) if isinstance(record, str) else record
      cells = {' '.join(k.split()): _to_text(v) for k, v in values.items()}
    except (ValueError, AttributeError, RecursionError):
      reason = f'got {record[:80]!r}; expected a JSON object in each line'
      yield row, Problem(str(path), row, 'bad JSON', reason)
      continue
    if not columns.issuperset(cells):
      yield row, tuple(name for name in cells if name not in columns)
      columns.update(cells)
    yield row, cells


def _parquet_records(path: epath.Path, content: bytes) -> Iterator[dict]:
  try:
    from pyarrow import parquet

    for batch in parquet.ParquetFile(io.BytesIO(content)).iter_batches(1000):
      yield from batch.to_pylist()
  except ImportError:
    raise errors.InputError(
      f"{path} needs pyarrow: pip install -e '.[parquet]', or save it as CSV."
    ) from None
  except (OSError, ValueError) as e:
    raise errors.InputError(f'{path} cannot be read: {e}.') from None


def _to_text(value: Any) -> str:
  """The cell of a value: JSON of a list or object, '' for null and NaN."""
  if isinstance(value, (list, dict)):
    return json.dumps(value, ensure_ascii=False, default=_to_text)
  # The bytes of an image have no place in a table of text.
  is_blank = value is None or value != value or isinstance(value, bytes)
  return '' if is_blank else str(value)
