"""Reads a CSV file into cells of text, and says which rows are broken."""

from collections.abc import Iterator, Sequence
import csv
import dataclasses
import io

from etils import epath

from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.runtime import errors

Problem = problems_lib.Problem


@dataclasses.dataclass(frozen=True)
class Table:
  """The cells of a CSV file, as they stand there.

  Attributes:
    path: of the file.
    encoding: of the file.
    columns: the header's names, on one line each; '' where a column has none.
    rows: a cell for each column, by the row's number.
    problems: the rows that are no such row.
  """

  path: epath.Path
  encoding: str
  columns: tuple[str, ...]
  rows: dict[int, dict[str, str]]
  problems: list[Problem]

  def column(self, name: str) -> Iterator[str]:
    """The cells of one column."""
    return (cells[name] for cells in self.rows.values())


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
  text, encoding = _read_text(path)
  rows, problems = {}, []
  columns = None
  for row, cells in _numbered_rows(text, path):
    if isinstance(cells, csv.Error):
      if columns is None:
        raise errors.InputError(
          f'{path}, row {row}: the quotes of the header do not match: {cells}.'
        )
      problems.append(
        Problem(
          str(path),
          row,
          'broken quotes',
          f'the quotes do not match: {cells}; double each quote (") that'
          ' belongs to the text of a cell',
        )
      )
    elif not any(cell.strip() for cell in cells):
      continue  # A blank line, or only commas.
    elif columns is None:
      columns = _header(cells, path)
    elif any(cell.strip() for cell in cells[len(columns) :]):
      problems.append(
        Problem(
          str(path),
          row,
          'too many cells',
          f'the row has {len(cells)} cells, the header {len(columns)} names; a'
          ' genre list with commas in it needs quotes around it',
        )
      )
    else:
      missing = [''] * (len(columns) - len(cells))
      rows[row] = dict(zip(columns, cells + missing, strict=False))
  if columns is None:
    raise errors.InputError(f'{path} is empty; expected a header and rows.')
  if not rows and not problems:
    raise errors.InputError(f'{path} has a header and no rows.')
  return Table(path, encoding, columns, rows, problems)


def _read_text(path: epath.Path) -> tuple[str, str]:
  """The text of a file, and its encoding."""
  if not path.exists():
    raise errors.InputError(f'There is no CSV file {path}.')
  if path.is_dir():
    raise errors.InputError(f'{path} is a folder; --csv wants a CSV file.')
  try:
    content = path.read_bytes()
  except OSError as e:
    raise errors.InputError(f'{path} cannot be read: {e.strerror}.') from None
  if b'\0' in content:
    raise errors.InputError(
      f'{path} is no text file in UTF-8 or Latin-1: it has zero bytes, as a'
      ' spreadsheet or a file in UTF-16 has. Save it as CSV in UTF-8.'
    )
  try:
    return content.decode('utf-8-sig'), 'utf-8'
  except UnicodeDecodeError:
    return content.decode('latin-1'), 'latin-1'


def _numbered_rows(
  text: str, path: epath.Path
) -> Iterator[tuple[int, list[str] | csv.Error]]:
  """Yields the rows, or what is wrong with one of them, counted from 1."""
  # Line ends of all kinds become \n, also in cells.
  lines = io.StringIO(text, newline=None)
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
