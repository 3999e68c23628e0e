"""Cells of a CSV file as text, and the rows that cannot be parsed."""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import io

from etils import epath

from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

Problem = problems_lib.Problem

# Largest CSV file; enough for ten million rows.
MAX_BYTES = 1 << 31


@dataclasses.dataclass(frozen=True)
class Table:
  """The cells of a CSV file.

  The file's bytes are kept and parsed again for each pass over the rows, since
  rows as Python objects would take ten times the memory.

  Attributes:
    path: the CSV file.
    encoding: encoding of the file.
    content: the file's bytes.
    columns: names in the header, without line breaks; '' for unnamed columns.
    num_rows: rows that match the header.
    problems: the other rows.
  """

  path: epath.Path
  encoding: str
  content: bytes = dataclasses.field(repr=False)
  columns: tuple[str, ...]
  num_rows: int
  problems: list[Problem]

  def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the number of each row and its cells by column."""
    for row, cells in _read(self.path, self.content, self.encoding):
      if isinstance(cells, dict):
        yield row, cells

  def column(self, name: str) -> Iterator[str]:
    """The cells of one column."""
    return (cells[name] for _, cells in self.rows())


def read(path: epath.Path, content: bytes | None = None) -> Table:
  """Reads all cells as text, with the row numbers of a spreadsheet.

  The encoding may be UTF-8, with or without a byte order mark, or Latin-1.

  Args:
    path: the CSV file.
    content: its bytes, if they are in memory.

  Returns:
    The cells, and the problems of rows that do not match the header.

  Raises:
    InputError: the file is missing, empty or not a CSV file.
  """
  encoding = 'utf-8'
  if content is None:
    content, encoding = _read_content(path)
  num_rows, problems, columns = 0, [], None
  for _, cells in _read(path, content, encoding):
    if isinstance(cells, Problem):
      problems.append(cells)
    elif isinstance(cells, tuple):
      columns = cells
    else:
      num_rows += 1
  if columns is None:
    raise errors.InputError(f'{path} is empty; expected a header and rows.')
  if not num_rows and not problems:
    raise errors.InputError(f'{path} has a header and no rows.')
  return Table(path, encoding, content, columns, num_rows, problems)


def _read(
  path: epath.Path, content: bytes, encoding: str
) -> Iterator[tuple[int, tuple[str, ...] | dict[str, str] | Problem]]:
  """Yields the header, then each row or its problem, with row numbers."""
  columns = None
  for row, cells in _numbered_rows(path, content, encoding):
    if isinstance(cells, csv.Error):
      if columns is None:
        raise errors.InputError(
          f'{path}, row {row}: unbalanced quotes in the header: {cells}.'
        )
      reason = (
        f'unbalanced quotes: {cells}; double each quote (") that is part of a'
        " cell's text"
      )
      yield row, Problem(str(path), row, 'broken quotes', reason)
    elif not any(cell.strip() for cell in cells):
      continue  # A blank line, or only commas.
    elif columns is None:
      columns = _header(cells, path)
      yield row, columns
    elif any(cell.strip() for cell in cells[len(columns) :]):
      reason = (
        f'the row has {len(cells)} cells, the header {len(columns)} names; a'
        ' genre list that contains commas needs quotes around it'
      )
      yield row, Problem(str(path), row, 'too many cells', reason)
    else:
      missing = [''] * (len(columns) - len(cells))
      yield row, dict(zip(columns, cells + missing, strict=False))


def _read_content(path: epath.Path) -> tuple[bytes, str]:
  """The bytes of a text file, and its encoding."""
  if not path.exists():
    raise errors.InputError(f'There is no CSV file {path}.')
  if path.is_dir():
    raise errors.InputError(f'{path} is a folder; --csv expects a CSV file.')
  try:
    content = regular_files.read(path, max_bytes=MAX_BYTES)
  except regular_files.NotReadableError as e:
    raise errors.InputError(f'{path} cannot be read: {e}.') from None
  if b'\0' in content:
    raise errors.InputError(
      f'{path} is not a text file in UTF-8 or Latin-1: it contains zero bytes,'
      ' like a spreadsheet or a file in UTF-16. Save it as CSV in UTF-8.'
    )
  try:
    content.decode('utf-8')
  except UnicodeDecodeError:
    return content, 'latin-1'
  return content, 'utf-8'


def _numbered_rows(
  path: epath.Path, content: bytes, encoding: str
) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """Yields the rows or their parse errors, counted from 1."""
  # All line endings become \n, also in cells.
  lines = io.TextIOWrapper(
    io.BytesIO(content),
    # utf-8-sig skips a byte order mark.
    'utf-8-sig' if encoding == 'utf-8' else encoding,
    newline=None,
  )
  reader = csv.reader(lines, skipinitialspace=True, strict=True)
  row = 0
  while True:
    row += 1
    first_line = reader.line_num + 1
    try:
      yield row, next(reader)
    except StopIteration:
      return
    except csv.Error as e:
      if reader.line_num > first_line:
        # Skipping this row would lose all rows up to the closing quote.
        raise errors.InputError(
          f'{path}, row {row}: a quote (") opened in line {first_line} is not'
          f' closed correctly; the text up to line {reader.line_num} would be'
          " one cell. Close it, or double it if it is part of the cell's text."
        ) from e
      yield row, e


def _header(cells: Sequence[str], path: epath.Path) -> tuple[str, ...]:
  """The column names, which must be unique."""
  names = tuple(' '.join(cell.split()) for cell in cells)
  repeated = sorted({name for name in names if name and names.count(name) > 1})
  if repeated:
    raise errors.InputError(
      f'The header of {path} has {repeated} more than once; rename one of the'
      ' columns.'
    )
  separator = next((s for s in ';\t|' if s in cells[0]), None)
  if len(names) == 1 and separator:
    raise errors.InputError(
      f'The header of {path} has the single name {cells[0]!r}; its cells seem'
      f' to be separated by {separator!r}, expected commas.'
    )
  return names
