"""Reads a CSV file into cells of text, and says which rows are broken."""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import io

from etils import epath

from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

Problem = problems_lib.Problem

# Of a CSV file; ten million rows have no more.
MAX_BYTES = 1 << 31


@dataclasses.dataclass(frozen=True)
class Table:
  """The cells of a CSV file, as they stand there.

  The bytes of the file are held, and read anew for each look at the rows: a
  million of them as Python objects would take ten times the memory.

  Attributes:
    path: of the file.
    encoding: of the file.
    content: its bytes.
    columns: the header's names, on one line each; '' where a column has none.
    num_rows: of those that fit the header.
    problems: the rows that do not.
  """

  path: epath.Path
  encoding: str
  content: bytes = dataclasses.field(repr=False)
  columns: tuple[str, ...]
  num_rows: int
  problems: list[Problem]

  def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
    """The number of each row, and a cell for each column."""
    for row, cells in _read(self.path, self.content, self.encoding):
      if isinstance(cells, dict):
        yield row, cells

  def column(self, name: str) -> Iterator[str]:
    """The cells of one column."""
    return (cells[name] for _, cells in self.rows())


def read(path: epath.Path) -> Table:
  """Reads all cells as text, under the row numbers of a spreadsheet.

  The encoding may be UTF-8, with or without a byte order mark, or Latin-1.

  Args:
    path: of the file.

  Returns:
    The cells, and the problems of the rows that do not fit the header.

  Raises:
    InputError: the file is missing or empty, or no CSV file.
  """
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
  """Yields the header, then each row or what is wrong with it, by number."""
  columns = None
  for row, cells in _numbered_rows(path, content, encoding):
    if isinstance(cells, csv.Error):
      if columns is None:
        raise errors.InputError(
          f'{path}, row {row}: the quotes of the header do not match: {cells}.'
        )
      reason = (
        f'the quotes do not match: {cells}; double each quote (") that belongs'
        ' to the text of a cell'
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
        ' genre list with commas in it needs quotes around it'
      )
      yield row, Problem(str(path), row, 'too many cells', reason)
    else:
      missing = [''] * (len(columns) - len(cells))
      yield row, dict(zip(columns, cells + missing, strict=False))


def _read_content(path: epath.Path) -> tuple[bytes, str]:
  """The bytes of a file of text, and its encoding."""
  if not path.exists():
    raise errors.InputError(f'There is no CSV file {path}.')
  if path.is_dir():
    raise errors.InputError(f'{path} is a folder; --csv wants a CSV file.')
  try:
    content = regular_files.read(path, max_bytes=MAX_BYTES)
  except regular_files.NotReadableError as e:
    raise errors.InputError(f'{path} cannot be read: {e}.') from None
  if b'\0' in content:
    raise errors.InputError(
      f'{path} is no text file in UTF-8 or Latin-1: it has zero bytes, as a'
      ' spreadsheet or a file in UTF-16 has. Save it as CSV in UTF-8.'
    )
  try:
    content.decode('utf-8')
  except UnicodeDecodeError:
    return content, 'latin-1'
  return content, 'utf-8'


def _numbered_rows(
  path: epath.Path, content: bytes, encoding: str
) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """Yields the rows, or what is wrong with one of them, counted from 1."""
  # Line ends of all kinds become \n, also in cells.
  lines = io.TextIOWrapper(
    io.BytesIO(content),
    # Without the byte order mark, where there is one.
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
        # To go on would be to lose all the rows in between.
        raise errors.InputError(
          f'{path}, row {row}: a quote (") that opens in line {first_line} is'
          f' not closed well; the text up to line {reader.line_num} would be'
          ' one cell. Close it, or double it where it belongs to the text.'
        ) from e
      yield row, e


def _header(cells: Sequence[str], path: epath.Path) -> tuple[str, ...]:
  """The column names, each once."""
  names = tuple(' '.join(cell.split()) for cell in cells)
  repeated = sorted({name for name in names if name and names.count(name) > 1})
  if repeated:
    raise errors.InputError(
      f'The header of {path} has {repeated} more than once; rename one of them.'
    )
  separator = next((s for s in ';\t|' if s in cells[0]), None)
  if len(names) == 1 and separator:
    raise errors.InputError(
      f'The header of {path} is the one name {cells[0]!r}; its cells seem to be'
      f' separated by {separator!r}, expected commas.'
    )
  return names
