"""The CSV files and image folders that one data set is made of."""

from collections.abc import Mapping, Sequence
import dataclasses

from etils import epath

from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.runtime import errors


@dataclasses.dataclass(frozen=True)
class Source:
  """A CSV file and the images it speaks of.

  Attributes:
    csv: the CSV file.
    images: the folder of its images.
    columns: which columns of the CSV hold what.
    name: what the data card calls it, in place of the paths.
  """

  csv: epath.Path
  images: epath.Path
  columns: columns_lib.Columns = columns_lib.BY_NAME
  name: str | None = None


def read_genre_names(path: epath.PathLike) -> dict[str, str]:
  """Reads which genres of one source are called otherwise in another.

  Args:
    path: of a text file with a line such as `Sci-Fi = Science Fiction` for each
      genre that is to get another name. Empty lines and what follows a # do not
      count.

  Returns:
    The new name of each old one.

  Raises:
    InputError: there is no such file, or a line does not say what to do.
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
        f'{path}, line {number}: {old!r} is to be called {new[0]!r}, and'
        f' {names[old]!r} before; keep one of the lines.'
      )
  for old, new in names.items():
    if new in names:
      raise errors.InputError(
        f'{path}: {old!r} is to be called {new!r}, and {new!r} itself'
        f' {names[new]!r}; give {old!r} its last name at once.'
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
    exclude_genres: labels to drop, as they are called after renaming.
    genre_names: what to call a genre instead, in all sources.

  Returns:
    The rows of each source. A film that an earlier row put into another split
    is a problem.

  Raises:
    InputError: a folder or a CSV file cannot be used at all, or a genre that is
      to be dropped or renamed is in none of them.
  """
  genre_names = dict(genre_names or {})
  for source in sources:
    if not source.images.is_dir():
      what = 'is a file' if source.images.exists() else 'does not exist'
      raise errors.InputError(
        f'--images={source.images} {what}; expected the folder of the posters.'
      )
  found = tuple(
    annotations_lib.read_csv(
      source.csv,
      columns=source.columns,
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
        f'{flag} names {unknown}, which {files} does not have; its genres are'
        f' {sorted(known)}.'
      )
  return _one_split_a_film(found)


def _one_split_a_film(
  found: Sequence[annotations_lib.Annotations],
) -> tuple[annotations_lib.Annotations, ...]:
  """Makes a problem of each row whose split is not that of its film."""
  first: dict[str, rows_lib.Annotation] = {}
  agreeing = []
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
          f'film {row.id!r} is in {row.split} here, and in {earlier.split} in'
          f' {earlier.file}, row {earlier.row}; all posters of a film belong'
          ' in one split',
        )
      )
    agreeing.append(
      dataclasses.replace(one, rows=rows, problems=sorted(problems))
    )
  return tuple(agreeing)
