"""Finds out what the columns of a CSV file hold."""

from collections.abc import Sequence
import dataclasses

from genre_flax.datasets.posters import csv_table
from genre_flax.runtime import errors

# Column names to look for when none is given, compared without case.
_ID_COLUMNS = ('id', 'imdbid', 'imdb_id', 'movie_id', 'film_id')
_GENRE_COLUMNS = ('genre', 'genres')
_SPLIT_COLUMN = 'split'
# What a one-hot cell may say.
BINARY = {'0': False, '1': True, '0.0': False, '1.0': True}


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


BY_NAME = Columns()


@dataclasses.dataclass(frozen=True)
class Found:
  """The columns of one file by name; '' and () where there is none."""

  id: str
  genre: str
  labels: tuple[str, ...]
  image: str
  image_pattern: str
  split: str
  ignored: tuple[str, ...]


def find(table: csv_table.Table, columns: Columns) -> Found:
  """Finds each column by its given or its usual name.

  Args:
    table: the CSV file.
    columns: those that are given.

  Returns:
    What each column holds.

  Raises:
    InputError: a column that is given or needed is not there.
  """
  # A column without a name is the row index of some program.
  named = [name for name in table.columns if name]
  by_lower_case = {name.lower(): name for name in reversed(named)}

  def named_column(given: str | None, usual: Sequence[str]) -> str:
    if given is None:
      return next((by_lower_case[n] for n in usual if n in by_lower_case), '')
    if given and given not in named:
      raise errors.InputError(
        f'{table.path} has no column {given!r}; its columns are {named}.'
      )
    return given

  id_column = named_column(columns.id, _ID_COLUMNS)
  if not id_column:
    raise errors.InputError(
      f'{table.path} has no column named like an id ({", ".join(_ID_COLUMNS)});'
      f' its columns are {named}. Name one with --id_column.'
    )
  genre = named_column(columns.genre, _GENRE_COLUMNS)
  image = named_column(columns.image, ())
  split = by_lower_case.get(_SPLIT_COLUMN, '')
  others = [
    name for name in named if name not in (id_column, genre, image, split)
  ]
  if columns.labels is None:
    labels = _find_one_hot(table, others)
  else:
    labels = tuple(named_column(name, ()) for name in columns.labels)
  if not genre and not labels:
    raise errors.InputError(
      f'{table.path} has neither a column of genre lists'
      f' ({", ".join(_GENRE_COLUMNS)}) nor one-hot columns of 0 and 1; its'
      f' columns are {named}. Name the list with --genre_column, or the one-hot'
      ' columns with --label_columns.'
    )
  return Found(
    id=id_column,
    genre=genre,
    labels=labels,
    image=image,
    image_pattern=columns.image_pattern,
    split=split,
    ignored=tuple(name for name in others if name not in labels),
  )


def _find_one_hot(
  table: csv_table.Table, names: Sequence[str]
) -> tuple[str, ...]:
  """The columns most of whose cells are 0 or 1; the others are bad labels."""
  num_binary = dict.fromkeys(names, 0)
  for _, cells in table.rows():
    for name in names:
      num_binary[name] += cells[name].strip() in BINARY
  return tuple(
    name for name, count in num_binary.items() if 2 * count > table.num_rows
  )
