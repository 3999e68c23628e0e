"""Search for images whose names differ from the expected ones."""

import collections
import contextlib
import itertools
import os
import re
import shlex
import unicodedata

from etils import epath

from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import csv_table
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.datasets.posters import sources as sources_lib
from genre_flax.runtime import files

_NUM_ROWS = 500
_NUM_FILES = 10_000


class Finder:
  """Finds images by their names without suffixes; safe to use from threads.

  Names are compared in the Unicode form NFC, since macOS writes NFD. A folder
  is listed once.

  Attributes:
    found: the expected and the actual path of each image with another name.
  """

  def __init__(self):
    self.found: list[tuple[str, str]] = []
    self._listings: dict[epath.Path, dict[str, list[epath.Path]]] = {}

  def find(self, path: epath.Path) -> list[epath.Path]:
    """The images with the name of a path, with any suffix."""
    if path.parent not in self._listings:
      listing = collections.defaultdict(list)
      with contextlib.suppress(OSError, ValueError):
        for other in path.parent.iterdir():
          listing[_key(other)].append(other)
      self._listings[path.parent] = listing
    named = self._listings[path.parent].get(_key(path), ())
    return sorted(filter(images.is_image, named))

  def check(
    self, folder: epath.Path, file: str, *, max_side: int | None
  ) -> tuple[str, images.CheckedImage]:
    """The path of an image below a folder, or of the only one found.

    Raises:
      BadImageError: as `images.check`.
    """
    try:
      return file, images.check(folder / file, max_side=max_side)
    except images.BadImageError as e:
      found = self.find(folder / file) if e.kind == images.MISSING else []
      if len(found) != 1:
        e.reason += ''.join(f'; there is {path.name}' for path in found)
        raise
    other = os.path.join(os.path.dirname(file), found[0].name)
    self.found.append((file, other))
    return other, images.check(folder / other, max_side=max_side)


def _key(path: epath.Path) -> str:
  return unicodedata.normalize('NFC', re.sub(r'\.\w+$', '', path.name))


def find_flags(source: sources_lib.Source) -> str:
  """The flags that find the images of most rows of a CSV file, or ''."""
  table = csv_table.read(source.csv, separator=source.columns.separator)
  rows = [cells for _, cells in itertools.islice(table.rows(), _NUM_ROWS)]
  id_column = columns_lib.find(table, source.columns).id
  names = sorted(
    filter(None, table.columns), key=lambda name: name != id_column
  )
  patterns = [*_patterns(source.images), '']
  finder = Finder()
  most, flags = len(rows) // 2, ''
  for name, pattern in itertools.product(names, patterns):
    found = set()
    for cells in rows:
      cell = cells[name].strip()
      if not cell or rows_lib.escapes(cell, separators=bool(pattern)):
        continue
      with contextlib.suppress(ValueError):
        path = columns_lib.image_path(pattern or '{id}', cell)
        found.update(finder.find(source.images / path))
    if len(found) > most:
      most = len(found)
      flags = f'--image_column={shlex.quote(name)}'
      if pattern:
        flags = f'--id_column={shlex.quote(name)}'
        flags += f' --image_pattern={shlex.quote(pattern)}'
  return flags


def _patterns(folder: epath.Path) -> list[str]:
  """Likely image patterns, by the most frequent names of images in a folder."""
  found = (p for p in files.walk(folder) if p.suffix.lower() in images.SUFFIXES)
  counts, widths = collections.Counter(), {}
  for path in itertools.islice(found, _NUM_FILES):
    # The folder, the name up to a number at its end, the number, the suffix.
    *parts, number, suffix = re.fullmatch(
      r'(?s)(.*/|)([^/]*?)(\d*)(\.\w+)', str(path.relative_to(folder))
    ).groups()
    counts[*parts, suffix] += 1
    if number.startswith('0'):
      widths[*parts, suffix] = len(number)
  patterns = []
  for (parent, before, suffix), _ in counts.most_common(2):
    width = widths.get((parent, before, suffix))
    number = f'{{id:0{width}d}}' if width else '{id:d}'
    names = ('{id}', before + '{id}', before + number)
    patterns += [f'{parent}{name}{suffix}' for name in names]
  return patterns
