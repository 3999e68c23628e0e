"""The roles of the columns of a CSV file: id, image, genres, split."""

from collections.abc import Sequence
import dataclasses
import re

from genre_flax.datasets.posters import csv_table
from genre_flax.runtime import errors

# Default column names, compared without case.
_ID_COLUMNS = ('id', 'imdbid', 'imdb_id', 'movie_id', 'film_id')
_GENRE_COLUMNS = ('genre', 'genres')
_SPLIT_COLUMN = 'split'
IMAGE_PATTERN = '{id}.jpg'
# Values of a one-hot cell.
BINARY = {'0': False, '1': True, '0.0': False, '1.0': True}
# The number in an id, with leading zeros.
_NUMBER_FIELD = re.compile(r'\{id:(0?\d{0,2}d)\}')


@dataclasses.dataclass(frozen=True)
class Columns:
  """Column names that the user gave; None: use the default names.

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
  """

  id: str | None = None
  genre: str | None = None
  labels: tuple[str, ...] | None = None
  image: str | None = None
  image_pattern: str = IMAGE_PATTERN
  extra: tuple[str, ...] = ()


BY_NAME = Columns()


@dataclasses.dataclass(frozen=True)
class ColumnRoles:
  """Names of a file's columns by role; '' and () for none."""

  id: str
  genre: str
  labels: tuple[str, ...]
  image: str
  image_pattern: str
  split: str
  extra: tuple[str, ...]
  ignored: tuple[str, ...]


def is_image_pattern(text: str) -> bool:
  """Whether a path contains {id}, or its number as {id:d} or {id:07d}."""
  return '{id}' in text or bool(_NUMBER_FIELD.search(text))


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


def find(table: csv_table.Table, columns: Columns) -> ColumnRoles:
  """Finds each column by its given or default name.

  Args:
    table: the CSV file.
    columns: names that the user gave.

  Returns:
    The roles of the columns.

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
  image = named_column(columns.image, ('file_name',))
  if not id_column and not image:
    raise errors.InputError(
      f'{table.path} has no id column ({", ".join(_ID_COLUMNS)}); its columns'
      f' are {named}. Name the id column with --id_column, or the column of the'
      ' image paths with --image_column.'
    )
  genre = named_column(columns.genre, _GENRE_COLUMNS)
  split = by_lower_case.get(_SPLIT_COLUMN, '')
  extra = tuple(named_column(name, ()) for name in columns.extra)
  others = [
    name
    for name in named
    if name not in (id_column, genre, image, split, *extra)
  ]
  if columns.labels is None:
    labels = _find_one_hot(table, others)
  else:
    labels = tuple(named_column(name, ()) for name in columns.labels)
  if not genre and not labels:
    raise errors.InputError(
      f'{table.path} has neither a genre list column'
      f' ({", ".join(_GENRE_COLUMNS)}) nor one-hot columns of 0 and 1; its'
      f' columns are {named}. Name the genre lists with --genre_column, or the'
      ' one-hot columns with --label_columns.'
    )
  return ColumnRoles(
    id=id_column,
    genre=genre,
    labels=labels,
    image=image,
    image_pattern=columns.image_pattern,
    split=split,
    extra=extra,
    ignored=tuple(name for name in others if name not in labels),
  )


def _find_one_hot(
  table: csv_table.Table, names: Sequence[str]
) -> tuple[str, ...]:
  """Columns with a majority of 0 and 1; other cells in them are problems."""
  num_binary = dict.fromkeys(names, 0)
  for _, cells in table.rows():
    for name in names:
      num_binary[name] += cells[name].strip() in BINARY
  return tuple(
    name for name, count in num_binary.items() if 2 * count > table.num_rows
  )
