"""The roles of the columns of a table: id, image, genres, split."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import re

from genre_flax.datasets.posters import csv_table
from genre_flax.datasets.posters import genre_lists
from genre_flax.runtime import errors
from genre_flax.runtime import text as text_lib

# Default column names, compared without case.
_ID_COLUMNS = ('id', 'imdbid', 'imdb_id', 'movie_id', 'film_id')
_ID_COLUMNS += ('movieid', 'tconst', 'show_id')
_GENRE_COLUMNS = ('genre', 'genres', 'listed_in')
_SPLIT_COLUMNS = ('split',)
# Values of a one-hot cell, without case and spaces.
_BINARY = dict.fromkeys(('', '0', '0.0', 'false'), False)
_BINARY |= dict.fromkeys(('1', '1.0', 'true'), True)
# The number in an id, with leading zeros.
_NUMBER_FIELD = re.compile(r'\{id:(0?\d{0,2}d)\}')


@dataclasses.dataclass(frozen=True)
class Columns:
  """How to read tables; None for a column: use the default names.

  Attributes:
    id: ids of the films, which determine image files and splits; without this
      column, ids are the paths of the images without their suffixes.
    genre: lists of genres; '' for none.
    labels: one-hot columns; () for none.
    image: paths of the images below the image folder; without this column the
      path is `image_pattern` with the id.
    image_pattern: path with the id as '{id}', such as '{id}.jpg', or with the
      number in the id, such as 'tt{id:07d}.jpg'.
    extra: columns to store as further inputs; the same for all sources.
    split: names of splits; '' for none.
    separator: of the cells of a row; None: as in the first rows.
    genre_separator: of the names in a genre list; None: the usual ones.
    keep_na: whether names of missing values, such as N/A, are genres.
  """

  id: str | None = None
  genre: str | None = None
  labels: tuple[str, ...] | None = None
  image: str | None = None
  image_pattern: str = '{id}.jpg'
  extra: tuple[str, ...] = ()
  split: str | None = None
  separator: str | None = None
  genre_separator: str | None = None
  keep_na: bool = False


BY_NAME = Columns()


@dataclasses.dataclass(frozen=True)
class ColumnRoles(Columns):
  """The columns of a table by role; '' and () for none.

  Attributes:
    ignored: columns without a role.
    listed: the names in all genre lists.
    is_long: whether each row has at most one genre, so that a film may have
      several rows.
    notes: about columns of 0 and 1 that are ignored.
  """

  ignored: tuple[str, ...] = ()
  listed: frozenset[str] = frozenset()
  is_long: bool = False
  notes: tuple[str, ...] = ()


def parse_binary(cell: str) -> bool | None:
  """The value of a one-hot cell; None for other cells."""
  value = _BINARY.get(cell)
  return _BINARY.get(cell.strip().lower()) if value is None else value


def image_path(pattern: str, film_id: str) -> str:
  """The path of an image, by its pattern and the id of its film.

  Raises:
    ValueError: the pattern expects a number, which the id does not have.
  """
  if '{id}' in pattern:
    return pattern.replace('{id}', film_id)
  number = re.fullmatch(r'\D*(\d{1,99})(\.0+)?', film_id)
  if not number:
    raise ValueError(
      f'the id is {film_id!r}; --image_pattern={pattern} expects a number in it'
    )
  return _NUMBER_FIELD.sub(
    lambda field: format(int(number[1]), field[1]), pattern
  )


def find(
  table: csv_table.Table,
  columns: Columns,
  genre_names: Mapping[str, str] | None = None,
) -> ColumnRoles:
  """Finds each column by its given or default name, or by its contents.

  One-hot columns are compared with genre lists by their new `genre_names`.

  Raises:
    InputError: a given or required column is missing.
  """
  # Unnamed columns are row indices written by other programs.
  named = [name for name in table.columns if name]
  by_lower_case = {name.lower(): name for name in reversed(named)}

  def named_column(given: str | None, defaults: Sequence[str]) -> str:
    if given is None:
      return next(
        (by_lower_case[n] for n in defaults if n in by_lower_case), ''
      )
    if given and given not in named:
      raise errors.InputError(
        f'{table.path} has no column {given!r}; its columns are {named}.'
      )
    return given

  id_column = named_column(columns.id, _ID_COLUMNS)
  has_pattern = columns.image_pattern != BY_NAME.image_pattern
  image = named_column(columns.image, () if has_pattern else ('file_name',))
  if not id_column and not image:
    raise errors.InputError(
      f'{table.path} has no id column ({", ".join(_ID_COLUMNS)}); its columns'
      f' are {named}. Name the id column with --id_column, the column of image'
      ' paths with --image_column, or the separator of the columns with'
      ' --separator.'
    )
  genre = named_column(columns.genre, _GENRE_COLUMNS)
  split = named_column(columns.split, _SPLIT_COLUMNS)
  for name in columns.extra:
    named_column(name, ())
  with_role = (id_column, genre, image, split, *columns.extra)
  others = [name for name in named if name not in with_role]
  lists, one_hot = _read_contents(table, genre, others, columns.genre_separator)
  listed = frozenset(name for names in lists for name in names)
  labels, notes = tuple(one_hot), ()
  if columns.labels is not None:
    labels = tuple(named_column(name, ()) for name in columns.labels)
  elif genre:
    labels, notes = _choose_labels(one_hot, listed, genre_names or {})
  if not genre and not labels:
    raise errors.InputError(
      f'{table.path} has neither a genre list column'
      f' ({", ".join(_GENRE_COLUMNS)}) nor one-hot columns of 0 and 1; its'
      f' columns are {named}. Name the genre lists with --genre_column, or the'
      ' one-hot columns with --label_columns.'
    )
  found = {
    'id': id_column,
    'genre': genre,
    'labels': labels,
    'image': image,
    'split': split,
    'ignored': tuple(name for name in others if name not in labels),
    'listed': listed,
    'is_long': not labels and all(len(names) < 2 for names in lists),
    'notes': notes,
  }
  return ColumnRoles(**vars(columns) | found)


def _read_contents(
  table: csv_table.Table,
  genre: str,
  others: Sequence[str],
  separator: str | None,
) -> tuple[set[tuple[str, ...]], dict[str, bool]]:
  """The different genre lists, and the one-hot columns.

  A one-hot column has a majority of 0 and 1, or only these and blank cells; its
  other cells are problems. The value is whether the column has a 1.
  """
  texts = set()
  counts = {name: {'blank': 0, True: 0, False: 0, None: 0} for name in others}
  for _, cells in table.rows():
    if genre:
      texts.add(cells[genre])
    for name, count in counts.items():
      cell = cells[name]
      count[parse_binary(cell) if cell else 'blank'] += 1
  lists = set()
  for text in texts:
    try:
      lists.add(genre_lists.parse_genres(text, separator))
    except ValueError:
      continue  # RowReader reports each such row.
  return lists, {
    name: bool(count[True])
    for name, count in counts.items()
    if 2 * (count[True] + count[False]) > table.num_rows
    or (count[True] and not count[None])
  }


def _choose_labels(
  one_hot: Mapping[str, bool], listed: Iterable[str], renamed: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
  """The one-hot columns that are genres, and notes about the others.

  Genres are in a list, or have no poster beside columns that are in a list.
  """

  def key(name):
    return genre_lists.key(renamed.get(name, name))

  keys = set(map(key, listed))
  shared = {name for name in one_hot if key(name) in keys}
  unused = {name for name, is_used in one_hot.items() if shared and not is_used}
  ignored = [name for name in one_hot if name not in shared | unused]
  note = (
    'Columns of 0 and 1 that are in no genre list are ignored:'
    f' {text_lib.join_first(ignored)}; if they are genres, name all one-hot'
    ' columns with --label_columns.'
  )
  labels = tuple(name for name in one_hot if name not in ignored)
  return labels, (note,) if ignored else ()
