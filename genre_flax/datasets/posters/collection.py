"""From CSV files and folders of images to examples that are known to be good.

Nothing is written here but scaled or re-encoded images, into a folder that the
caller throws away after the data set is made from it.
"""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import itertools
import json
from typing import TypeVar

from etils import epath

from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.datasets.posters import sources as sources_lib
from genre_flax.datasets.posters import splits
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import threads

_T = TypeVar('_T')
# Shows how far a loop is: (items, number of items, description) -> items.
Progress = Callable[[Iterable[_T], int, str], Iterable[_T]]


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
  """One poster that has been read, decoded and given its split.

  Attributes:
    id: unique: that of the film, with #2, #3, ... for its further posters.
    film: id of the film.
    source: number of the source, from 0.
    folder: of the RGB JPEG to store.
    file: its path below it.
    genres: sorted.
    split: one of rows_lib.SPLITS.
    height: in pixels.
    width: in pixels.
    num_bytes: of the RGB JPEG.
    sha256: of the original file's bytes.
    is_reencoded: whether the RGB JPEG is a converted copy.
  """

  id: str
  film: str
  source: int
  folder: epath.Path
  file: str
  genres: tuple[str, ...]
  split: str
  height: int
  width: int
  num_bytes: int
  sha256: str
  is_reencoded: bool

  @property
  def path(self) -> epath.Path:
    """Of the RGB JPEG to store."""
    return self.folder / self.file

  def read(self) -> bytes:
    """The bytes of the JPEG.

    Raises:
      InputError: the file is not the one that was checked.
    """
    if self.is_reencoded:
      return self.path.read_bytes()
    try:
      content = self.path.read_bytes()
    except OSError:
      content = None
    if content is None or hashlib.sha256(content).hexdigest() != self.sha256:
      raise errors.InputError(
        f'{self.path} was changed or removed after it was checked; run prepare'
        ' again, and leave the images alone meanwhile.'
      )
    return content


@dataclasses.dataclass(frozen=True)
class Collection:
  """What `collect` found.

  Attributes:
    examples: the good posters, in the order of the sources and their rows.
    problems: the others.
    sources: where they lie.
    annotations: what the CSV of each source said.
    num_merged: posters left out since the film has the same image already.
    shares: percent of each split.
    max_side: that images were scaled down to, or None.
  """

  examples: tuple[Example, ...]
  problems: tuple[problems_lib.Problem, ...]
  sources: tuple[sources_lib.Source, ...]
  annotations: tuple[annotations_lib.Annotations, ...]
  num_merged: int
  shares: Mapping[str, int]
  max_side: int | None

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names of all sources, sorted."""
    return tuple(sorted({g for one in self.annotations for g in one.genres}))

  @property
  def num_posters(self) -> list[int]:
    """Good posters of each source."""
    counts = collections.Counter(example.source for example in self.examples)
    return [counts[number] for number in range(len(self.sources))]

  def fingerprint(self) -> str:
    """A hash of all that decides what the data set holds."""
    digest = hashlib.sha256()
    digest.update(json.dumps([self.genres, self.max_side]).encode())
    for example in sorted(self.examples, key=lambda example: example.id):
      line = [example.id, example.genres, example.split, example.sha256]
      digest.update(json.dumps(line).encode())
    return digest.hexdigest()[:16]


def collect(
  sources: Sequence[sources_lib.Source],
  *,
  shares: Mapping[str, int],
  spool: epath.Path,
  exclude_genres: Sequence[str] = (),
  genre_names: Mapping[str, str] | None = None,
  max_side: int | None = None,
  progress: Progress = lambda items, total, description: items,
) -> Collection:
  """Reads the CSVs, decodes every image once, and fixes the splits.

  Args:
    sources: the CSV files and the image folders.
    shares: percent of each split; they sum up to 100.
    spool: an existing folder for converted images.
    exclude_genres: labels to drop.
    genre_names: what to call a genre instead.
    max_side: larger images are scaled down to it, in pixels.
    progress: shows how far the images are.

  Returns:
    The good examples and the problems of the others.

  Raises:
    InputError: a CSV or a folder cannot be read at all.
  """
  annotations = sources_lib.read(
    sources, exclude_genres=exclude_genres, genre_names=genre_names
  )
  num_rows = sum(len(one.rows) for one in annotations)
  problems = [problem for one in annotations for problem in one.problems]
  posters: dict[tuple[str, str], _Poster] = {}
  num_merged = 0
  for poster in progress(
    _check_all(sources, annotations, spool, max_side),
    num_rows,
    'Reading posters',
  ):
    if isinstance(poster, problems_lib.Problem):
      problems.append(poster)
      continue
    film_and_image = (poster.row.id, poster.checked.sha256)
    num_merged += film_and_image in posters
    posters.setdefault(film_and_image, poster)
  return Collection(
    examples=_make_examples(list(posters.values()), shares),
    problems=tuple(sorted(problems)),
    sources=tuple(sources),
    annotations=annotations,
    num_merged=num_merged,
    shares=dict(shares),
    max_side=max_side,
  )


@dataclasses.dataclass(frozen=True, slots=True)
class _Poster:
  """A row whose image is good: below a folder, the RGB JPEG to store."""

  source: int
  row: rows_lib.Annotation
  folder: epath.Path
  file: str
  checked: images.CheckedImage
  is_reencoded: bool


def _check_all(sources, annotations, spool, max_side):
  """Yields a _Poster or a Problem for each row, in the order of the sources."""

  def check(numbered):
    number, (source, row) = numbered
    folder, file = sources[source].images, row.image
    try:
      checked = images.check(folder / file, max_side=max_side)
    except images.BadImageError as e:
      path = folder / file
      e = _with_hint(e, path)
      return problems_lib.Problem(
        file=row.file, row=row.row, kind=e.kind, reason=f'{path}: {e.reason}'
      )
    is_reencoded = checked.jpeg is not None
    if is_reencoded:
      folder, file = spool, f'{number}.jpg'
      with files.storage_errors(folder):
        (folder / file).write_bytes(checked.jpeg)
      # The bytes are on disk now; a large collection has no room for them.
      checked = dataclasses.replace(checked, jpeg=None)
    return _Poster(source, row, folder, file, checked, is_reencoded)

  rows = (
    (number, row) for number, one in enumerate(annotations) for row in one.rows
  )
  return threads.map_in_order(check, enumerate(rows))


def _make_examples(posters, shares) -> tuple[Example, ...]:
  assigned = splits.assign(
    [poster.row for poster in posters],
    [poster.checked.sha256 for poster in posters],
    shares=shares,
  )
  # A film's further posters must not take the id of another film.
  taken = {poster.row.id for poster in posters}
  seen = set()

  def unique_id(film):
    if film not in seen:
      seen.add(film)
      return film
    number = next(n for n in itertools.count(2) if f'{film}#{n}' not in taken)
    taken.add(f'{film}#{number}')
    return f'{film}#{number}'

  return tuple(
    Example(
      id=unique_id(poster.row.id),
      film=poster.row.id,
      source=poster.source,
      folder=poster.folder,
      file=poster.file,
      genres=poster.row.genres,
      split=split,
      height=poster.checked.height,
      width=poster.checked.width,
      num_bytes=poster.checked.num_bytes,
      sha256=poster.checked.sha256,
      is_reencoded=poster.is_reencoded,
    )
    for poster, split in zip(posters, assigned, strict=True)
  )


def _with_hint(error: images.BadImageError, path: epath.Path):
  """Names the file that was perhaps meant, where there is none at `path`."""
  if error.kind != images.MISSING:
    return error
  for suffix in ('.jpg', '.jpeg', '.png', '.webp', '.gif'):
    for other in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
      if other.exists():
        reason = (
          f'{error.reason}, but there is {other.name}; see --image_pattern'
        )
        return images.BadImageError(error.kind, reason)
  return error


def require_usable(collection: Collection) -> None:
  """Raises InputError where no data set can be made of the collection."""
  if not collection.examples:
    raise errors.InputError('No poster is left to make a data set of.')
  counts = {split: 0 for split in rows_lib.SPLITS}
  for example in collection.examples:
    counts[example.split] += 1
  empty = [
    split
    for split, count in counts.items()
    if not count and collection.shares[split]
  ]
  if empty:
    raise errors.InputError(
      f'The split(s) {", ".join(empty)} would be empty: the'
      f' {len(collection.examples)} posters give {counts}. Add posters, put a'
      ' column Split into the CSV, or give a split no share, as in'
      ' --splits=100,0,0.'
    )
