"""The CSV files and image folders of one dataset."""

from collections.abc import Mapping, Sequence
import dataclasses

from absl import logging
from etils import epath

from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import notes as notes_lib
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.runtime import errors
from genre_flax.runtime import text as text_lib


@dataclasses.dataclass(frozen=True)
class Source:
  """A CSV file and its images.

  Attributes:
    csv: the CSV file, or the folder of the images if there is none.
    images: the folder of the images.
    columns: names of the columns.
    layout: of a folder without a CSV file, as in `layouts.read`.
    name: shown in the data card in place of the paths.
  """

  csv: epath.Path
  images: epath.Path
  columns: columns_lib.Columns = columns_lib.BY_NAME
  layout: str | None = None
  name: str | None = None


def read_genre_names(path: epath.PathLike) -> dict[str, str]:
  """Reads a file of new names of genres.

  Args:
    path: a text file with one line per genre to rename, such as `Sci-Fi =
      Science Fiction`. Empty lines and comments after # are ignored.

  Raises:
    InputError: the file cannot be read, or a line is invalid.
  """
  path = epath.Path(path)
  try:
    text = path.read_text(encoding='utf-8-sig')
  except (OSError, UnicodeDecodeError) as e:
    raise errors.InputError(f'--genre_names={path} cannot be read: {e}') from e
  names: dict[str, str] = {}
  for number, line in enumerate(text.splitlines(), start=1):
    line = line.split('#')[0]
    if not line.strip():
      continue
    old, *new = (' '.join(part.split()) for part in line.split('='))
    if len(new) != 1 or not old or not new[0]:
      raise errors.InputError(
        f'{path}, line {number}: got {line.strip()!r}, expected OLD NAME = NEW'
        ' NAME, such as Sci-Fi = Science Fiction'
      )
    if names.setdefault(old, new[0]) != new[0]:
      raise errors.InputError(
        f'{path}, line {number}: {old!r} is renamed to {new[0]!r}, but to'
        f' {names[old]!r} in an earlier line; keep one of the lines.'
      )
  for old, new in names.items():
    if new in names:
      raise errors.InputError(
        f'{path}: {old!r} is renamed to {new!r}, and {new!r} to'
        f' {names[new]!r}; rename {old!r} to its final name.'
      )
  return names


def read(
  sources: Sequence[Source],
  *,
  exclude_genres: Sequence[str] = (),
  genre_names: Mapping[str, str] | None = None,
) -> tuple[annotations_lib.Annotations, ...]:
  """Reads the CSV files of all sources.

  Args:
    sources: at least one.
    exclude_genres: labels to drop, by their new names.
    genre_names: new names of genres, in all sources.

  Returns:
    The rows of each source. A row that contradicts the split of an earlier row
    of its film is a problem.

  Raises:
    InputError: a folder or a CSV file cannot be read, or no source has a genre
      that is excluded or renamed.
  """
  genre_names = dict(genre_names or {})
  for source in sources:
    if not source.images.is_dir():
      fault = 'is a file' if source.images.exists() else 'does not exist'
      raise errors.InputError(
        f'--images={source.images} {fault}; expected the folder of the posters.'
      )
  found = tuple(
    annotations_lib.read_csv(
      source.csv,
      columns=source.columns,
      layout=source.layout,
      exclude_genres=exclude_genres,
      genre_names=genre_names,
    )
    for source in sources
  )
  listed = frozenset().union(*(one.listed_names for one in found))
  renamed = {genre_names.get(name, name) for name in listed}
  files = ' and '.join(str(source.csv) for source in sources)
  for flag, names, known in (
    ('--genre_names', genre_names, listed),
    ('--exclude_genres', exclude_genres, renamed),
  ):
    unknown = sorted(set(names) - known)
    if unknown:
      raise errors.InputError(
        f'{flag} has {unknown}, which are not in {files}; expected genres among'
        f' {sorted(known)}.'
      )
  notes = [
    f'{source.csv}: {note}'
    for source, one in zip(sources, found, strict=True)
    for note in one.notes
  ]
  notes += notes_lib.of_genres(row for one in found for row in one.rows)
  for note in notes:
    logging.warning('%s', text_lib.printable(note, keep='\n'))
  return _require_one_split_per_film(found)


def _require_one_split_per_film(
  found: Sequence[annotations_lib.Annotations],
) -> tuple[annotations_lib.Annotations, ...]:
  """Turns rows whose split is not that of their film into problems."""
  first: dict[str, rows_lib.Annotation] = {}
  checked = []
  for one in found:
    rows, problems = [], list(one.problems)
    for row in one.rows:
      earlier = first.setdefault(row.id, row) if row.split else row
      if row.split == earlier.split:
        rows.append(row)
        continue
      problems.append(
        problems_lib.Problem(
          row.file,
          row.row,
          'film in two splits',
          f'film {row.id!r} is in {row.split} here, but in {earlier.split} in'
          f' {earlier.file}, row {earlier.row}; expected all posters of a film'
          ' in one split',
        )
      )
    checked.append(
      dataclasses.replace(one, rows=rows, problems=sorted(problems))
    )
  return tuple(checked)
