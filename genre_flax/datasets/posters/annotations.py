"""Reads the CSV file of a poster collection, in the shapes met in the wild."""

import ast
from collections.abc import Sequence
import dataclasses
import io
import re

from etils import epath
import pandas as pd

from genre_flax import errors
from genre_flax.datasets.posters import problems as problems_lib

Problem = problems_lib.Problem

SPLITS = ('train', 'validation', 'test')

# Column names to look for when none is given, compared without case.
_ID_COLUMNS = ('id', 'imdbid', 'imdb_id', 'movie_id', 'film_id')
_GENRE_COLUMNS = ('genre', 'genres')
_SPLIT_COLUMN = 'split'
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


@dataclasses.dataclass(frozen=True)
class Columns:
  """Which columns of the CSV hold what; None means: find it by its name.

  Attributes:
    id: of the film; its posters' file names and splits follow from it.
    genre: a list of genres. '' means that there is none.
    labels: the one-hot columns. () means that there are none.
    image: the image's path below the image folder; without one the path is
      `image_pattern` with the id.
    image_pattern: such as '{id}.jpg'.
  """

  id: str | None = None
  genre: str | None = None
  labels: tuple[str, ...] | None = None
  image: str | None = None
  image_pattern: str = '{id}.jpg'


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
    rows: the good rows, in the file's order, each id once.
    genres: all genres, sorted, those without a poster among them.
    problems: the bad rows.
    num_rows: rows in the file.
    num_repeated: rows left out since an earlier one says the same.
    ignored_columns: that hold neither id, image, split nor genres.
    encoding: of the file.
  """

  rows: list[Annotation]
  genres: tuple[str, ...]
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
  if text.startswith(('[', '(')):
    try:
      names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
      names = None
    if not isinstance(names, (list, tuple)) or not all(
      isinstance(name, str) for name in names
    ):
      raise ValueError(f'{text!r} is not a Python list of strings')
  else:
    names = _SEPARATORS.split(text)
  return tuple(sorted({name.strip() for name in names} - {''}))


def read_csv(
  path: epath.PathLike,
  *,
  columns: Columns = Columns(),
  exclude_genres: Sequence[str] = (),
) -> Annotations:
  """Reads a CSV of posters and their genres.

  Genres come from a list column, from one-hot columns, or from both, which must
  then agree in every row. The encoding may be UTF-8, with or without a byte
  order mark, or Latin-1.

  Args:
    path: of the CSV file.
    columns: which columns hold what.
    exclude_genres: labels to drop, such as 'N/A'; a row left with none is a
      problem.

  Returns:
    The rows, and the problems of those that cannot be used.

  Raises:
    InputError: the file is missing, empty or no CSV, or lacks a column.
  """
  frame, encoding = _read_frame(epath.Path(path))
  names = _find_columns(frame, columns, path)
  vocabulary = _vocabulary(frame, names)
  unknown = sorted(set(exclude_genres) - set(vocabulary))
  if unknown:
    raise errors.InputError(
      f'exclude_genres has {unknown}, which {path} does not have; its genres'
      f' are {sorted(vocabulary)}'
    )
  reader = _RowReader(str(path), names, vocabulary, frozenset(exclude_genres))
  for row in frame.to_dict('index').items():
    reader.read(*row)
  return Annotations(
    rows=list(reader.rows.values()),
    genres=tuple(sorted(set(vocabulary) - set(exclude_genres))),
    problems=sorted(reader.problems),
    num_rows=len(frame),
    num_repeated=reader.num_repeated,
    ignored_columns=names.ignored,
    encoding=encoding,
  )


def _read_frame(path: epath.Path) -> tuple[pd.DataFrame, str]:
  """Reads all cells as text, indexed by the row numbers of a spreadsheet."""
  if not path.exists():
    raise errors.InputError(f'There is no CSV file {path}.')
  if path.is_dir():
    raise errors.InputError(f'{path} is a folder; --csv wants a CSV file.')
  content = path.read_bytes()
  encoding = 'utf-8-sig'
  try:
    text = content.decode(encoding)
  except UnicodeDecodeError:
    encoding = 'latin-1'
    text = content.decode(encoding)
  try:
    frame = pd.read_csv(
      io.StringIO(text),
      dtype=str,
      keep_default_na=False,
      skip_blank_lines=False,
      skipinitialspace=True,
    )
  except (pd.errors.EmptyDataError, pd.errors.ParserError) as e:
    raise errors.InputError(
      f'{path} is not a CSV file with a header: {e}'
    ) from None
  if not isinstance(frame.index, pd.RangeIndex):
    # pandas takes the surplus for row labels, and shifts all columns.
    raise errors.InputError(
      f'{path}: the rows have more cells than the header has names'
      f' ({list(frame.columns)}); a genre list with commas needs quotes.'
    )
  frame = frame.fillna('')  # Rows with fewer cells than the header.
  frame.columns = [str(name).strip() for name in frame.columns]
  frame.index = pd.RangeIndex(2, 2 + len(frame))
  is_blank = (frame.apply(lambda column: column.str.strip()) == '').all(axis=1)
  frame = frame[~is_blank]
  if frame.empty:
    raise errors.InputError(f'{path} has a header and no rows.')
  return frame, encoding


@dataclasses.dataclass(frozen=True)
class _Found:
  """The columns of one file, found; '' and () where there is none."""

  id: str
  genre: str
  labels: tuple[str, ...]
  image: str
  image_pattern: str
  split: str
  ignored: tuple[str, ...]


def _find_columns(
  frame: pd.DataFrame, columns: Columns, path: epath.PathLike
) -> _Found:
  """Finds each column by its given or its usual name."""
  by_lower_case = {name.lower(): name for name in frame.columns}

  def find(given: str | None, usual: Sequence[str]) -> str:
    if given is None:
      return next((by_lower_case[n] for n in usual if n in by_lower_case), '')
    if given and given not in frame.columns:
      raise errors.InputError(
        f'{path} has no column {given!r}; its columns are {list(frame.columns)}'
      )
    return given

  id_column = find(columns.id, _ID_COLUMNS)
  if not id_column:
    raise errors.InputError(
      f'{path} has no column named like an id; its columns are'
      f' {list(frame.columns)}. Name one with --id_column.'
    )
  genre = find(columns.genre, _GENRE_COLUMNS)
  image = find(columns.image, ())
  split = by_lower_case.get(_SPLIT_COLUMN, '')
  others = [
    name
    for name in frame.columns
    if name not in (id_column, genre, image, split)
  ]
  if columns.labels is None:
    labels = tuple(name for name in others if _is_one_hot(frame[name]))
  else:
    labels = tuple(find(name, ()) for name in columns.labels)
  if not genre and not labels:
    raise errors.InputError(
      f'{path} has neither a column of genre lists nor one-hot columns of 0 and'
      f' 1; its columns are {list(frame.columns)}. Name the list with'
      ' --genre_column, or the one-hot columns with --label_columns.'
    )
  return _Found(
    id=id_column,
    genre=genre,
    labels=labels,
    image=image,
    image_pattern=columns.image_pattern,
    split=split,
    ignored=tuple(name for name in others if name not in labels),
  )


def _is_one_hot(column: pd.Series) -> bool:
  """Whether most cells are 0 or 1; the others are then bad labels."""
  return column.str.strip().isin(list(_BINARY)).mean() > 0.5


_BINARY = {'0': False, '1': True, '0.0': False, '1.0': True}


def _vocabulary(frame: pd.DataFrame, names: _Found) -> tuple[str, ...]:
  """The one-hot columns, or without any all genres of the list column."""
  if names.labels:
    return names.labels
  vocabulary = set()
  for text in frame[names.genre].unique():
    try:
      vocabulary.update(parse_genres(text))
    except ValueError:
      continue  # Its rows are reported one by one.
  return tuple(sorted(vocabulary))


class _BadRow(Exception):
  """A row cannot be used; arguments: kind, reason."""


class _RowReader:
  """Collects the rows of one file, or what is wrong with them."""

  def __init__(
    self,
    file: str,
    names: _Found,
    vocabulary: tuple[str, ...],
    excluded: frozenset[str],
  ):
    self._file = file
    self._names = names
    self._vocabulary = frozenset(vocabulary)
    self._excluded = excluded
    self.rows: dict[str, Annotation] = {}
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
        f'id {name!r} has a path in it; an id is a plain file name',
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
        f'image path {image!r} leads out of the image folder',
      )
    return image

  def _genres(self, cells: dict[str, str]) -> tuple[str, ...]:
    """The row's genres, agreed on by the list and the one-hot columns."""
    names = self._names
    listed = one_hot = None
    if names.labels:
      values = {}
      for label in names.labels:
        cell = cells[label].strip()
        if cell not in _BINARY:
          raise _BadRow(
            'label not 0 or 1', f'column {label!r} is {cell!r}, not 0 or 1'
          )
        values[label] = _BINARY[cell]
      one_hot = tuple(sorted(name for name, is_set in values.items() if is_set))
    if names.genre:
      try:
        listed = parse_genres(cells[names.genre])
      except ValueError as e:
        raise _BadRow(
          'bad genre list', f'column {names.genre!r}: {e}'
        ) from None
      unknown = sorted(set(listed) - self._vocabulary)
      if unknown:
        raise _BadRow(
          'unknown genre',
          f'column {names.genre!r} has {unknown}, but there is no such one-hot'
          ' column',
        )
    if listed is not None and one_hot is not None and listed != one_hot:
      raise _BadRow(
        'labels disagree',
        f'column {names.genre!r} says {list(listed)}, the one-hot columns say'
        f' {list(one_hot)}; correct the row, or use the one-hot columns alone'
        " (--genre_column='') or the list alone (--label_columns='')",
      )
    genres = listed if listed is not None else one_hot
    kept = tuple(name for name in genres if name not in self._excluded)
    if not kept:
      why = f'only the excluded {list(genres)}' if genres else 'none'
      raise _BadRow('no genre', f'a poster needs at least one genre; got {why}')
    return kept

  def _split(self, cells: dict[str, str]) -> str | None:
    if not self._names.split:
      return None
    text = cells[self._names.split].strip().lower()
    if not text:
      return None
    if text not in _SPLIT_ALIASES:
      raise _BadRow(
        'unknown split',
        f'column {self._names.split!r} is {text!r}, not one of {SPLITS}',
      )
    return _SPLIT_ALIASES[text]

  def _add(self, annotation: Annotation) -> None:
    earlier = self.rows.get(annotation.id)
    if earlier is None:
      self.rows[annotation.id] = annotation
      return
    same = dataclasses.replace(annotation, row=earlier.row) == earlier
    if not same:
      raise _BadRow(
        'repeated id, other content',
        f'id {annotation.id!r} stands in row {earlier.row} too, with genres'
        f' {list(earlier.genres)}, image {earlier.image!r} and split'
        f' {earlier.split}, against {list(annotation.genres)},'
        f' {annotation.image!r} and {annotation.split} here',
      )
    self.num_repeated += 1


def _escapes(path: str, *, separators: bool = False) -> bool:
  """Whether a path leads out of its folder, or has any separator in it."""
  parts = re.split(r'[/\\]', path)
  if separators and len(parts) > 1:
    return True
  is_absolute = not parts[0] or re.match(r'[A-Za-z]:$', parts[0])
  return bool(is_absolute) or '..' in parts or '\0' in path
