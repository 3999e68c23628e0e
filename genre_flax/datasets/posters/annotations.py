"""Reads the CSV file of a poster collection, in the shapes met in the wild."""

import ast
from collections.abc import Mapping, Sequence
import dataclasses
import re

from etils import epath

from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import csv_table
from genre_flax.datasets.posters import problems as problems_lib

Problem = problems_lib.Problem

SPLITS = ('train', 'validation', 'test')

_SPLIT_ALIASES = {
  'train': 'train',
  'training': 'train',
  'val': 'validation',
  'valid': 'validation',
  'validation': 'validation',
  'dev': 'validation',
  'test': 'test',
}
# `Action / Adventure` and `Action/Adventure` are two genres, N/A is one.
_SEPARATORS = re.compile(r'\s*[|,;]\s*|\s+/\s+|(?<!\bN)/|/(?!A\b)', re.I)
# As numpy prints an array of strings: ['Action' 'Drama'].
_NO_COMMA = re.compile(r"""['"]\s+['"]""")


@dataclasses.dataclass(frozen=True)
class Annotation:
  """One row of the CSV.

  Attributes:
    id: of the film.
    image: path below the image folder.
    genres: sorted.
    split: one of SPLITS, or None where the CSV does not say.
    file: the CSV file.
    row: as a spreadsheet counts: the header is row 1.
  """

  id: str
  image: str
  genres: tuple[str, ...]
  split: str | None
  file: str
  row: int


@dataclasses.dataclass
class Annotations:
  """What `read_csv` found.

  Attributes:
    rows: the good rows, in the file's order, each poster of a film once.
    genres: all genres, sorted, those without a poster among them.
    listed_names: all genres as the file calls them, the excluded ones too.
    problems: the bad rows.
    num_rows: rows in the file, without the header and blank rows.
    num_repeated: rows left out since an earlier one says the same.
    ignored_columns: that hold neither id, image, split nor genres.
    encoding: of the file.
  """

  rows: list[Annotation]
  genres: tuple[str, ...]
  listed_names: frozenset[str]
  problems: list[Problem]
  num_rows: int
  num_repeated: int
  ignored_columns: tuple[str, ...]
  encoding: str


def parse_genres(text: str) -> tuple[str, ...]:
  """Reads a list of genres: a Python list, or names between | , ; or /.

  Args:
    text: such as "['Action', 'Drama']", 'Action|Drama', 'Action, Drama' or
      'Action / Drama'.

  Returns:
    The sorted names, each once. Empty for an empty cell.

  Raises:
    ValueError: the text starts like a Python list and is none.
  """
  text = text.strip()
  if text.startswith(('[', '(', '{')):
    try:
      names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
      names = None
    if not isinstance(names, (list, tuple, set)) or not all(
      isinstance(name, str) for name in names
    ):
      raise ValueError(
        f"{text!r} is not a list of names; expected one such as ['Action',"
        " 'Drama'] or Action|Drama"
      )
    if _NO_COMMA.search(text):
      # Python would join the two into one name.
      raise ValueError(
        f"{text!r} lacks a comma between two names; expected ['Action',"
        " 'Drama']"
      )
  else:
    names = _SEPARATORS.split(text)
  return tuple(sorted({' '.join(name.split()) for name in names} - {''}))


def read_csv(
  path: epath.PathLike,
  *,
  columns: columns_lib.Columns = columns_lib.BY_NAME,
  exclude_genres: Sequence[str] = (),
  genre_names: Mapping[str, str] | None = None,
) -> Annotations:
  """Reads a CSV of posters and their genres.

  Genres come from a list column, from one-hot columns, or from both, which must
  then agree in every row. A film may have several rows with an image each. The
  encoding may be UTF-8, with or without a byte order mark, or Latin-1.

  Args:
    path: of the CSV file.
    columns: which columns hold what.
    exclude_genres: labels to drop, such as 'N/A'; a row left with none is a
      problem.
    genre_names: what to call a genre instead; first of all.

  Returns:
    The rows, and the problems of those that cannot be used.

  Raises:
    InputError: the file is missing, empty or no CSV, or lacks a column.
  """
  table = csv_table.read(epath.Path(path))
  names = columns_lib.find(table, columns)
  renamed = dict(genre_names or {})
  listed = _listed_genres(table, names)
  vocabulary = frozenset(
    renamed.get(name, name) for name in names.labels or listed
  )
  excluded = frozenset(exclude_genres)
  reader = _RowReader(str(path), names, vocabulary, excluded, renamed)
  for row, cells in table.rows.items():
    reader.read(row, cells)
  return Annotations(
    rows=list(reader.rows.values()),
    genres=tuple(sorted(vocabulary - excluded)),
    listed_names=listed.union(names.labels),
    problems=sorted(table.problems + reader.problems),
    num_rows=len(table.rows) + len(table.problems),
    num_repeated=reader.num_repeated,
    ignored_columns=names.ignored,
    encoding=table.encoding,
  )


def _listed_genres(
  table: csv_table.Table, names: columns_lib.Found
) -> frozenset[str]:
  """All genres of the list column."""
  if not names.genre:
    return frozenset()
  listed = set()
  for text in set(table.column(names.genre)):
    try:
      listed.update(parse_genres(text))
    except ValueError:
      continue  # Its rows are reported one by one.
  return frozenset(listed)


class _BadRow(Exception):
  """A row cannot be used; arguments: kind, reason."""


class _RowReader:
  """Collects the rows of one file, or what is wrong with them."""

  def __init__(
    self,
    file: str,
    names: columns_lib.Found,
    vocabulary: frozenset[str],
    excluded: frozenset[str],
    renamed: Mapping[str, str],
  ):
    self._file = file
    self._names = names
    self._vocabulary = vocabulary
    self._excluded = excluded
    self._renamed = renamed
    self._first_rows: dict[str, Annotation] = {}
    self.rows: dict[tuple[str, str], Annotation] = {}
    self.problems: list[Problem] = []
    self.num_repeated = 0

  def read(self, row: int, cells: dict[str, str]) -> None:
    try:
      annotation = Annotation(
        id=self._id(cells),
        image=self._image(cells),
        genres=self._genres(cells),
        split=self._split(cells),
        file=self._file,
        row=row,
      )
      self._add(annotation)
    except _BadRow as e:
      self.problems.append(Problem(self._file, row, *e.args))

  def _id(self, cells: dict[str, str]) -> str:
    name = cells[self._names.id].strip()
    if not name:
      raise _BadRow('missing id', f'column {self._names.id!r} is empty')
    if not self._names.image and _escapes(name, separators=True):
      raise _BadRow(
        'id with a path',
        f'column {self._names.id!r} is {name!r}, which has a path in it;'
        ' expected a plain name. Name the column of the image paths, if there'
        ' is one, with --image_column',
      )
    return name

  def _image(self, cells: dict[str, str]) -> str:
    if not self._names.image:
      name = cells[self._names.id].strip()
      return self._names.image_pattern.replace('{id}', name)
    image = cells[self._names.image].strip()
    if not image:
      raise _BadRow('missing image', f'column {self._names.image!r} is empty')
    if _escapes(image):
      raise _BadRow(
        'image outside the folder',
        f'column {self._names.image!r} is {image!r}, which leads out of the'
        ' image folder; expected a path below it',
      )
    return image

  def _genres(self, cells: dict[str, str]) -> tuple[str, ...]:
    """The row's genres, agreed on by the list and the one-hot columns."""
    names = self._names
    one_hot = self._one_hot(cells) if names.labels else None
    listed = self._listed(cells) if names.genre else one_hot
    if one_hot is None:
      one_hot = listed
    kept, also = listed - self._excluded, one_hot - self._excluded
    if kept != also:
      raise _BadRow(
        'labels disagree',
        f'column {names.genre!r} says {sorted(kept)}, the one-hot columns say'
        f' {sorted(also)}; correct the row, or use the one-hot columns alone'
        " (--genre_column='') or the list alone (--label_columns='')",
      )
    if not kept:
      got = f'only the excluded {sorted(listed)}' if listed else 'none'
      raise _BadRow('no genre', f'expected at least one genre, got {got}')
    return tuple(sorted(kept))

  def _one_hot(self, cells: dict[str, str]) -> set[str]:
    genres = set()
    for label in self._names.labels:
      cell = cells[label].strip()
      if cell not in columns_lib.BINARY:
        raise _BadRow(
          'label not 0 or 1', f'column {label!r} is {cell!r}, not 0 or 1'
        )
      if columns_lib.BINARY[cell]:
        genres.add(self._renamed.get(label, label))
    return genres

  def _listed(self, cells: dict[str, str]) -> set[str]:
    column = self._names.genre
    try:
      listed = parse_genres(cells[column])
    except ValueError as e:
      raise _BadRow('bad genre list', f'column {column!r}: {e}') from None
    genres = {self._renamed.get(name, name) for name in listed}
    unknown = sorted(genres - self._vocabulary - self._excluded)
    if unknown:
      raise _BadRow(
        'unknown genre',
        f'column {column!r} has {unknown}, for which there is no one-hot'
        ' column',
      )
    return genres

  def _split(self, cells: dict[str, str]) -> str | None:
    if not self._names.split:
      return None
    text = cells[self._names.split].strip().lower()
    if not text:
      return None
    if text not in _SPLIT_ALIASES:
      raise _BadRow(
        'unknown split',
        f'column {self._names.split!r} is {text!r}; expected one of'
        f' {", ".join(SPLITS)}',
      )
    return _SPLIT_ALIASES[text]

  def _add(self, annotation: Annotation) -> None:
    earlier = self._first_rows.setdefault(annotation.id, annotation)
    differences = [
      f'{what} {there} there, {here} here'
      for what, there, here in (
        ('genres', list(earlier.genres), list(annotation.genres)),
        ('split', earlier.split, annotation.split),
      )
      if there != here
    ]
    if differences:
      raise _BadRow(
        'repeated id, other content',
        f'id {annotation.id!r} stands in row {earlier.row} too, but with'
        f' {"; ".join(differences)}. Make the rows agree, keep one of them, or'
        ' give them ids of their own',
      )
    poster = (annotation.id, annotation.image)
    if poster in self.rows:
      self.num_repeated += 1
    else:
      self.rows[poster] = annotation


def _escapes(path: str, *, separators: bool = False) -> bool:
  """Whether a path leads out of its folder, or has any separator in it."""
  parts = re.split(r'[/\\]', path)
  if separators and len(parts) > 1:
    return True
  is_absolute = not parts[0] or re.match(r'[A-Za-z]:$', parts[0])
  return bool(is_absolute) or '..' in parts
