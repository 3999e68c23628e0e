"""Reads the CSV file of a poster collection."""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses

from etils import epath

from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import csv_table
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import genre_lists
from genre_flax.datasets.posters import layouts
from genre_flax.datasets.posters import notes
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib

Problem = problems_lib.Problem


@dataclasses.dataclass
class Annotations:
  """The contents of one CSV file.

  Attributes:
    rows: valid rows in the file's order, one per poster of a film.
    genres: all genres, sorted, including those without a poster.
    listed_names: all genres by their names in the file, including excluded
      ones.
    problems: the invalid rows.
    num_rows: rows in the file, without the header and blank rows.
    num_repeated: repetitions of an earlier row, and further genres of its film.
    num_excluded: rows dropped since all of their genres are excluded.
    ignored_columns: columns without a role.
    encoding: encoding and separator of the file, or its format.
    notes: sentences about genres and columns that may be wrong.
  """

  rows: list[rows_lib.Annotation]
  genres: tuple[str, ...]
  listed_names: frozenset[str]
  problems: list[Problem]
  num_rows: int
  num_repeated: int
  num_excluded: int
  ignored_columns: tuple[str, ...]
  encoding: str
  notes: tuple[str, ...] = ()


def read_csv(
  path: epath.PathLike,
  *,
  columns: columns_lib.Columns = columns_lib.BY_NAME,
  layout: str | None = None,
  exclude_genres: Sequence[str] = (),
  genre_names: Mapping[str, str] | None = None,
) -> Annotations:
  """Reads a table of posters and their genres.

  Genres come from a list column, from one-hot columns, or from both, which must
  then agree in every row. A film may have several rows with one image each, or
  with one genre each.

  Args:
    path: the table, or a folder of images with a layout.
    columns: names of the columns, and notations.
    layout: of the folder, as in `layouts.read`; None for a table.
    exclude_genres: labels to drop, such as 'N/A'; rows without any other genre
      are dropped.
    genre_names: new names of genres, applied before `exclude_genres`.

  Returns:
    The valid rows, and the problems of the others.

  Raises:
    InputError: the file is missing, empty or not a table, or lacks a column.
  """
  if layout:
    table = layouts.read(epath.Path(path), columns, layout=layout)
  else:
    table = csv_table.read(epath.Path(path), separator=columns.separator)
  renamed = dict(genre_names or {})
  names = columns_lib.find(table, columns, renamed)
  listed = names.listed.union(names.labels)
  excluded = frozenset(exclude_genres)
  missing = [
    name
    for name in sorted(() if columns.keep_na else listed)
    if genre_lists.is_missing(renamed.get(name, name))
    and renamed.get(name, name) not in excluded
  ]
  renamed |= dict.fromkeys(missing, '')
  vocabulary = frozenset(
    renamed.get(name, name) for name in names.labels or names.listed
  ) - {''}
  numeric = frozenset(
    name
    for name in names.extra
    if _is_mostly_numeric(cells[name] for _, cells in table.rows())
  )
  reader = rows_lib.RowReader(
    str(table.path), names, vocabulary, excluded, renamed, numeric
  )
  for row, cells in table.rows():
    reader.read(row, cells)
  return Annotations(
    rows=reader.rows,
    genres=tuple(sorted(vocabulary - excluded)),
    listed_names=listed,
    problems=sorted(table.problems + reader.problems),
    num_rows=table.num_rows + len(table.problems),
    num_repeated=reader.num_repeated,
    num_excluded=reader.num_excluded,
    ignored_columns=names.ignored,
    encoding=table.format,
    notes=(*names.notes, *notes.of_rows(reader, names, missing)),
  )


def _is_mostly_numeric(texts: Iterable[str]) -> bool:
  """Whether more than half of the cells that are not empty are numbers."""
  numeric = [extra_columns.is_number(text) for text in texts if text.strip()]
  return 2 * sum(numeric) > len(numeric)
