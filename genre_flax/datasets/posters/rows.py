"""Parses the cells of a row into a poster's id, image, genres and split."""

from collections.abc import Mapping
import dataclasses
import re

from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import genre_lists
from genre_flax.datasets.posters import problems as problems_lib

Problem = problems_lib.Problem

SPLITS = ('train', 'validation', 'test')

SPLIT_ALIASES = {
  'train': 'train',
  'training': 'train',
  'val': 'validation',
  'valid': 'validation',
  'validation': 'validation',
  'dev': 'validation',
  'test': 'test',
}


@dataclasses.dataclass(slots=True)
class Annotation:
  """One row of a CSV file.

  Attributes:
    id: id of the film.
    image: path below the image folder.
    genres: sorted.
    split: one of SPLITS, or None if the row has none.
    file: the CSV file.
    row: number of the row as in a spreadsheet: the header is row 1.
    extra: cells of the extra columns, '' where empty.
  """

  id: str
  image: str
  genres: tuple[str, ...]
  split: str | None
  file: str
  row: int
  extra: tuple[str, ...] = ()


class _BadRow(Exception):
  """A row has a problem; arguments: kind, reason."""


class _ExcludedRow(Exception):
  """All genres of a row are excluded."""


class RowReader:
  """Parses the rows of one file; collects valid rows and problems."""

  def __init__(
    self,
    file: str,
    names: columns_lib.ColumnRoles,
    vocabulary: frozenset[str],
    excluded: frozenset[str],
    renamed: Mapping[str, str],
    numeric: frozenset[str] = frozenset(),
  ):
    self._file = file
    self._names = names
    self._vocabulary = vocabulary
    self._excluded = excluded
    # With '' for a missing value.
    self._renamed = renamed
    # Extra columns of numbers.
    self._numeric = numeric
    self._first_rows: dict[str, Annotation] = {}
    # The second and later posters of each film, by id and image.
    self._further: dict[tuple[str, str], Annotation] = {}
    # Posters with equal genres share one tuple.
    self._genre_sets: dict[tuple[str, ...], tuple[str, ...]] = {}
    self.rows: list[Annotation] = []
    self.problems: list[Problem] = []
    self.num_repeated = 0
    self.num_excluded = 0
    # Rows with further genres of a film, and with missing values.
    self.num_grouped = 0
    self.missing: list[int] = []

  def read(self, row: int, cells: dict[str, str]) -> None:
    """Adds one row to `rows`, `problems`, or a counter."""
    try:
      annotation = Annotation(
        id=self._id(cells),
        image=self._image(cells),
        genres=self._genres(row, cells),
        split=self._split(cells),
        file=self._file,
        row=row,
        extra=tuple(self._extra(cells, name) for name in self._names.extra),
      )
      self._add(annotation)
    except _ExcludedRow:
      self.num_excluded += 1
    except _BadRow as e:
      self.problems.append(Problem(self._file, row, *e.args))

  def _id(self, cells: dict[str, str]) -> str:
    if not self._names.id:
      return re.sub(r'\.\w+$', '', self._image(cells))
    name = cells[self._names.id].strip()
    if not name:
      raise _BadRow('missing id', f'column {self._names.id!r} is empty')
    if not self._names.image and escapes(name, separators=True):
      raise _BadRow(
        'id with a path',
        f'column {self._names.id!r} is {name!r}, which contains a path;'
        ' expected a plain name. Name the column of the image paths, if any,'
        ' with --image_column',
      )
    return name

  def _image(self, cells: dict[str, str]) -> str:
    if not self._names.image:
      name = cells[self._names.id].strip()
      try:
        return columns_lib.image_path(self._names.image_pattern, name)
      except ValueError as e:
        raise _BadRow('id without a number', str(e)) from None
    image = cells[self._names.image].strip()
    if not image:
      raise _BadRow('missing image', f'column {self._names.image!r} is empty')
    if escapes(image):
      raise _BadRow(
        'image outside the folder',
        f'column {self._names.image!r} is {image!r}, a path outside the image'
        ' folder; expected a path below it',
      )
    return image

  def _genres(self, row: int, cells: dict[str, str]) -> tuple[str, ...]:
    """The row's genres; list and one-hot columns must agree."""
    names = self._names
    one_hot = self._one_hot(cells) if names.labels else None
    listed = self._listed(cells) if names.genre else one_hot
    if one_hot is None:
      one_hot = listed
    dropped = self._excluded | {''}
    kept, also = listed - dropped, one_hot - dropped
    if '' in listed | one_hot:
      self.missing.append(row)
    if kept != also:
      raise _BadRow(
        'labels disagree',
        f'column {names.genre!r} has {sorted(kept)}, the one-hot columns have'
        f' {sorted(also)}; correct the row, or use only the one-hot columns'
        " (--genre_column='') or only the list (--label_columns='')",
      )
    is_empty = names.genre and cells[names.genre].strip() in ('[]', '{}')
    if not kept and is_empty:
      self.missing.append(row)
    if not kept and (listed or is_empty):
      raise _ExcludedRow
    if not kept:
      got = repr(cells[names.genre]) if names.genre else 'none'
      raise _BadRow('no genre', f'expected at least one genre, got {got}')
    genres = tuple(sorted(kept))
    return self._genre_sets.setdefault(genres, genres)

  def _one_hot(self, cells: dict[str, str]) -> set[str]:
    genres = set()
    for label in self._names.labels:
      cell = cells[label]
      value = columns_lib.parse_binary(cell)
      if value is None:
        raise _BadRow(
          'label not 0 or 1', f'column {label!r} is {cell!r}; expected 0 or 1'
        )
      if value:
        genres.add(self._renamed.get(label, label))
    return genres

  def _listed(self, cells: dict[str, str]) -> set[str]:
    column, separator = self._names.genre, self._names.genre_separator
    try:
      listed = genre_lists.parse_genres(cells[column], separator)
    except ValueError as e:
      raise _BadRow('bad genre list', f'column {column!r}: {e}') from None
    genres = {self._renamed.get(name, name) for name in listed}
    unknown = sorted(genres - self._vocabulary - self._excluded - {''})
    if unknown:
      raise _BadRow(
        'unknown genre',
        f'column {column!r} has {unknown}, which have no one-hot column',
      )
    return genres

  def _split(self, cells: dict[str, str]) -> str | None:
    if not self._names.split:
      return None
    text = cells[self._names.split].strip().lower()
    if not text:
      return None
    if text not in SPLIT_ALIASES:
      raise _BadRow(
        'unknown split',
        f'column {self._names.split!r} is {text!r}; expected one of'
        f' {", ".join(SPLITS)}. Ignore the column with --split_column=',
      )
    return SPLIT_ALIASES[text]

  def _extra(self, cells: dict[str, str], name: str) -> str:
    text = cells[name].strip()
    if text and name in self._numeric and not extra_columns.is_number(text):
      raise _BadRow(
        'not a number',
        f'column {name!r} is {text!r}; expected a number, as in most rows, or'
        ' an empty cell',
      )
    return text

  def _add(self, annotation: Annotation) -> None:
    earlier = self._first_rows.setdefault(annotation.id, annotation)
    if self._names.is_long and self._group(earlier, annotation):
      return
    differences = [
      f'{name} {theirs} there and {ours} here'
      for name, theirs, ours in (
        ('genres', list(earlier.genres), list(annotation.genres)),
        ('split', earlier.split, annotation.split),
      )
      if theirs != ours
    ]
    if differences:
      raise _BadRow(
        'repeated id, other content',
        f'id {annotation.id!r} is also in row {earlier.row}, with'
        f' {"; ".join(differences)}. Make the rows agree, keep one of them, or'
        ' give them different ids',
      )
    if earlier is not annotation:
      poster = (annotation.id, annotation.image)
      if earlier.image != annotation.image:
        earlier = self._further.setdefault(poster, annotation)
    if earlier is annotation:
      self.rows.append(annotation)
    elif earlier.extra == annotation.extra:
      self.num_repeated += 1
    else:
      raise _BadRow(
        'repeated poster, other extra columns',
        f'the poster is also in row {earlier.row}, with {earlier.extra} there'
        f' and {annotation.extra} here; keep one of the rows',
      )

  def _group(self, earlier: Annotation, annotation: Annotation) -> bool:
    """Adds the genre of a long table's row to its film's earlier row."""
    row, old = earlier.row, earlier.genres
    if earlier is annotation or earlier != dataclasses.replace(
      annotation, row=row, genres=old
    ):
      return False
    genres = tuple(sorted({*old, *annotation.genres}))
    earlier.genres = self._genre_sets.setdefault(genres, genres)
    self.num_repeated += 1
    self.num_grouped += genres != old
    return True


def escapes(path: str, *, separators: bool = False) -> bool:
  """Whether a path may leave its folder, or contains separators."""
  parts = re.split(r'[/\\]', path)
  is_absolute = not parts[0] or re.match(r'[A-Za-z]:$', parts[0])
  return bool(is_absolute) or '..' in parts or (separators and len(parts) > 1)
