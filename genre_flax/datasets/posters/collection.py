"""From a CSV file and a folder of images to examples that are known to be good.

Nothing is written here but scaled or re-encoded images, into a folder that the
caller throws away after the data set is made from it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent import futures
import dataclasses
import hashlib
import json
import os
from typing import TypeVar

from etils import epath

from genre_flax import errors
from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import splits

_T = TypeVar('_T')
# Shows how far a loop is: (items, number of items, description) -> items.
Progress = Callable[[Iterable[_T], int, str], Iterable[_T]]


@dataclasses.dataclass(frozen=True)
class Source:
  """Where a collection lies.

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


@dataclasses.dataclass(frozen=True)
class Example:
  """One poster that has been read, decoded and given its split.

  Attributes:
    id: of the film; unique.
    path: of the RGB JPEG to store.
    genres: sorted.
    split: one of annotations.SPLITS.
    height: in pixels.
    width: in pixels.
    sha256: of the original file's bytes.
    is_reencoded: whether `path` is a converted copy.
  """

  id: str
  path: epath.Path
  genres: tuple[str, ...]
  split: str
  height: int
  width: int
  sha256: str
  is_reencoded: bool

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
    examples: the good posters, in the CSV's order.
    problems: the others.
    annotations: what the CSV said.
    shares: percent of each split.
    max_side: that images were scaled down to, or None.
  """

  examples: tuple[Example, ...]
  problems: tuple[problems_lib.Problem, ...]
  annotations: annotations_lib.Annotations
  shares: Mapping[str, int]
  max_side: int | None

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names, sorted."""
    return self.annotations.genres

  def fingerprint(self) -> str:
    """A hash of all that decides what the data set holds."""
    digest = hashlib.sha256()
    digest.update(json.dumps([self.genres, self.max_side]).encode())
    for example in sorted(self.examples, key=lambda example: example.id):
      line = [example.id, example.genres, example.split, example.sha256]
      digest.update(json.dumps(line).encode())
    return digest.hexdigest()[:16]


def collect(
  source: Source,
  *,
  shares: Mapping[str, int],
  spool: epath.Path,
  exclude_genres: Sequence[str] = (),
  max_side: int | None = None,
  progress: Progress = lambda items, total, description: items,
) -> Collection:
  """Reads the CSV, decodes every image once, and fixes the splits.

  Args:
    source: the CSV file and the image folder.
    shares: percent of each split; they sum up to 100.
    spool: an existing folder for converted images.
    exclude_genres: labels to drop.
    max_side: larger images are scaled down to it, in pixels.
    progress: shows how far the images are.

  Returns:
    The good examples and the problems of the others.

  Raises:
    InputError: the CSV or the folder cannot be read at all.
  """
  if not source.images.is_dir():
    what = 'is a file' if source.images.exists() else 'does not exist'
    raise errors.InputError(
      f'--images={source.images} {what}; expected the folder of the posters.'
    )
  annotations = annotations_lib.read_csv(
    source.csv, columns=source.columns, exclude_genres=exclude_genres
  )
  problems = list(annotations.problems)
  rows, checked = [], []
  for row, result in progress(
    _check_all(source.images, annotations.rows, spool, max_side),
    len(annotations.rows),
    'Reading posters',
  ):
    if isinstance(result, images.BadImageError):
      problems.append(
        problems_lib.Problem(
          file=row.file,
          row=row.row,
          kind=result.kind,
          reason=f'{source.images / row.image}: {result.reason}',
        )
      )
    else:
      rows.append(row)
      checked.append(result)
  assigned = splits.assign(
    rows, [item.sha256 for _, item in checked], shares=shares
  )
  examples = tuple(
    Example(
      id=row.id,
      path=path,
      genres=row.genres,
      split=split,
      height=item.height,
      width=item.width,
      sha256=item.sha256,
      is_reencoded=item.jpeg is not None,
    )
    for row, (path, item), split in zip(rows, checked, assigned, strict=True)
  )
  return Collection(
    examples=examples,
    problems=tuple(sorted(problems)),
    annotations=annotations,
    shares=dict(shares),
    max_side=max_side,
  )


def _check_all(folder, rows, spool, max_side):
  """Yields (row, (path, CheckedImage) or BadImageError), in the rows' order."""

  def check(numbered):
    number, row = numbered
    path = folder / row.image
    try:
      checked = images.check(path, max_side=max_side)
    except images.BadImageError as e:
      return row, _with_hint(e, path)
    if checked.jpeg is not None:
      path = spool / f'{number}.jpg'
      path.write_bytes(checked.jpeg)
      # The bytes are on disk now; a large collection has no room for them.
      checked = dataclasses.replace(checked, jpeg=b'')
    return row, (path, checked)

  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    yield from pool.map(check, enumerate(rows))


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
  counts = {split: 0 for split in annotations_lib.SPLITS}
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
