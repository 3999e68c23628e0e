"""Joins label tables with image folders into validated examples.

The only files written here are scaled or re-encoded images, in a folder that
the caller deletes once the dataset is written.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import hashlib
import itertools
import json
from typing import TypeVar

from absl import logging
from etils import epath

from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import image_search
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import poster_text
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.datasets.posters import sources as sources_lib
from genre_flax.datasets.posters import splits
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import text
from genre_flax.runtime import threads

_T = TypeVar('_T')
# Shows the progress of a loop: (items, number of items, description) -> items.
Progress = Callable[[Iterable[_T], int, str], Iterable[_T]]

TextOf = Callable[[str, bytes], tuple[poster_text.Line, ...]]


def no_progress(
  items: Iterable[_T], total: int, description: str
) -> Iterable[_T]:
  """The `Progress` that shows nothing."""
  del total, description
  return items


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
  """One validated poster.

  Attributes:
    id: unique: the film's id, with #2, #3, ... for its further posters.
    film: id of the film.
    source: number of the source, from 0.
    folder: folder of the RGB JPEG to store.
    file: path of the JPEG below `folder`.
    genres: sorted.
    split: one of rows_lib.SPLITS.
    height: in pixels.
    width: in pixels.
    num_bytes: size of the RGB JPEG.
    sha256: hash of the original file's bytes.
    is_reencoded: whether the RGB JPEG is a converted copy.
    extra: cells of the extra columns, '' where empty.
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
  extra: tuple[str, ...] = ()

  @property
  def path(self) -> epath.Path:
    """Path of the RGB JPEG to store."""
    return self.folder / self.file

  def read(self) -> bytes:
    """The bytes of the JPEG.

    Raises:
      InputError: the file is no longer the one that was validated.
    """
    if self.is_reencoded:
      return self.path.read_bytes()
    try:
      content = self.path.read_bytes()
    except OSError:
      content = None
    if content is None or hashlib.sha256(content).hexdigest() != self.sha256:
      raise errors.InputError(
        f'{self.path} was changed or removed after it was validated. Run'
        ' prepare again, and do not change the images while it runs.'
      )
    return content


@dataclasses.dataclass(frozen=True)
class Collection:
  """All examples and problems of the sources of a dataset.

  Attributes:
    examples: valid posters, in the order of the sources and their rows.
    problems: problems of the other rows.
    sources: label tables and image folders.
    annotations: the contents of each source's CSV file.
    num_merged: posters dropped since their film has the same image already.
    shares: percent of each split.
    max_side: longer side that images were scaled down to, or None.
    text_of: returns the lines of text of a poster, by its id and JPEG; None
      for posters without text.
  """

  examples: tuple[Example, ...]
  problems: tuple[problems_lib.Problem, ...]
  sources: tuple[sources_lib.Source, ...]
  annotations: tuple[annotations_lib.Annotations, ...]
  num_merged: int
  shares: Mapping[str, int]
  max_side: int | None
  text_of: TextOf | None = None

  @property
  def genres(self) -> tuple[str, ...]:
    """The genres of all sources, sorted."""
    return tuple(sorted({g for one in self.annotations for g in one.genres}))

  @property
  def extra_columns(self) -> tuple[str, ...]:
    """The names of the extra columns."""
    return self.sources[0].columns.extra

  def fingerprint(self) -> str:
    """A hash of everything that determines the dataset's contents."""
    digest = hashlib.sha256()
    extra = self.extra_columns
    header = [self.genres, self.max_side, *([extra] if extra else ())]
    digest.update(json.dumps(header).encode())
    for example in sorted(self.examples, key=lambda example: example.id):
      line = [example.id, example.genres, example.split, example.sha256]
      line += example.extra
      digest.update(json.dumps(line).encode())
    return digest.hexdigest()[:16]

  def require_usable(self) -> None:
    """Raises InputError if there are no posters, or none for some split."""
    if not self.examples:
      raise errors.InputError('No posters are left for the dataset.')
    counts = dict.fromkeys(rows_lib.SPLITS, 0)
    for example in self.examples:
      counts[example.split] += 1
    empty = [name for name, n in counts.items() if not n and self.shares[name]]
    if empty:
      raise errors.InputError(
        f'The split(s) {", ".join(empty)} would be empty: the'
        f' {len(self.examples)} posters give {counts}. Add posters, add a'
        ' column Split to the CSV, or set the share of a split to 0, as in'
        ' --splits=100,0,0.'
      )


def collect(
  sources: Sequence[sources_lib.Source],
  *,
  spool: epath.Path,
  shares: Mapping[str, int] = splits.DEFAULT_SHARES,
  exclude_genres: Sequence[str] = (),
  genre_names: Mapping[str, str] | None = None,
  max_side: int | None = None,
  progress: Progress = no_progress,
) -> Collection:
  """Reads the label tables, decodes every image once, and assigns the splits.

  Converted images are written to the folder `spool`. Images whose longer side
  exceeds `max_side` pixels are scaled down. `shares` are percent of each split.

  Returns:
    The valid examples, and the problems of the other rows.

  Raises:
    InputError: a CSV file or a folder cannot be read at all.
  """
  annotations = sources_lib.read(
    sources, exclude_genres=exclude_genres, genre_names=genre_names
  )
  problems = [problem for one in annotations for problem in one.problems]
  rows = [
    (number, row) for number, one in enumerate(annotations) for row in one.rows
  ]
  found: dict[tuple[str, str], tuple[rows_lib.Annotation, Example]] = {}
  num_merged = 0
  checked = _check_images(sources, rows, spool, max_side)
  for (_, row), example in zip(
    rows, progress(checked, len(rows), 'Reading posters'), strict=True
  ):
    if isinstance(example, problems_lib.Problem):
      problems.append(example)
      continue
    film_and_image = (example.film, example.sha256)
    num_merged += film_and_image in found
    found.setdefault(film_and_image, (row, example))
  return Collection(
    examples=_assign_ids_and_splits(list(found.values()), shares),
    problems=tuple(sorted(problems)),
    sources=tuple(sources),
    annotations=annotations,
    num_merged=num_merged,
    shares=dict(shares),
    max_side=max_side,
  )


def _check_images(
  sources: Sequence[sources_lib.Source],
  rows: Sequence[tuple[int, rows_lib.Annotation]],
  spool: epath.Path,
  max_side: int | None,
) -> Iterator[Example | problems_lib.Problem]:
  """Yields an example without split, or a problem, for each row in order."""
  finder = image_search.Finder()

  def check(numbered):
    number, (source, row) = numbered
    folder, file = sources[source].images, row.image
    try:
      file, checked = finder.check(folder, file, max_side=max_side)
    except images.BadImageError as e:
      reason = f'{folder / file}: {e.reason}'
      return problems_lib.Problem(row.file, row.row, e.kind, reason)
    if checked.jpeg is not None:
      folder, file = spool, f'{number}.jpg'
      with files.storage_errors(folder):
        (folder / file).write_bytes(checked.jpeg)
    # The example has no pixels: a large collection does not fit into memory.
    return Example(
      id=row.id,
      film=row.id,
      source=source,
      folder=folder,
      file=file,
      genres=row.genres,
      split='',
      height=checked.height,
      width=checked.width,
      num_bytes=checked.num_bytes,
      sha256=checked.sha256,
      is_reencoded=checked.jpeg is not None,
      extra=row.extra,
    )

  yield from threads.map_in_order(check, enumerate(rows))
  if finder.found:
    names = [f'{name} for {wanted}' for wanted, name in sorted(finder.found)]
    logging.warning(
      'Images with another suffix or spelling than expected are used: %s.',
      text.printable(text.join_first(names)),
    )


def _assign_ids_and_splits(
  found: Sequence[tuple[rows_lib.Annotation, Example]],
  shares: Mapping[str, int],
) -> tuple[Example, ...]:
  assigned = splits.assign(
    [row for row, _ in found],
    [example.sha256 for _, example in found],
    shares=shares,
  )
  # Ids of a film's further posters must differ from the ids of other films.
  taken = {example.film for _, example in found}
  seen = set()

  def unique_id(film):
    if film not in seen:
      seen.add(film)
      return film
    number = next(n for n in itertools.count(2) if f'{film}#{n}' not in taken)
    taken.add(f'{film}#{number}')
    return f'{film}#{number}'

  return tuple(
    dataclasses.replace(example, id=unique_id(example.film), split=split)
    for (_, example), split in zip(found, assigned, strict=True)
  )
