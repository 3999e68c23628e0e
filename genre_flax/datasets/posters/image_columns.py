"""Finds the column that names the image files, where none of the ids does."""

from collections.abc import Sequence
import itertools

from genre_flax.datasets.posters import csv_table
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import sources as sources_lib

# Rows of a column that are looked at; half of them must name files.
_NUM_LOOKED_AT = 50


def hints(
  sources: Sequence[sources_lib.Source],
  problems: Sequence[problems_lib.Problem],
  *,
  num_posters: Sequence[int],
) -> list[str]:
  """What to type where all images of a source are missing.

  Args:
    sources: that were read.
    problems: that were found in them.
    num_posters: of each source, those that are good.

  Returns:
    A sentence for each such source in which a column names files that are
    there.
  """
  missing = {p.file for p in problems if p.kind == images.MISSING}
  found = []
  for source, number in zip(sources, num_posters, strict=True):
    if number or source.columns.image or str(source.csv) not in missing:
      continue
    found += [
      f'The column {column!r} of {source.csv} names files that are in'
      f' {source.images}: pass --image_column={column}.'
      for column in _columns_of_files(source)
    ]
  return found


def _columns_of_files(source: sources_lib.Source) -> list[str]:
  table = csv_table.read(source.csv)
  return [
    column
    for column in table.columns
    if column and _names_files(table.column(column), source.images)
  ]


def _names_files(cells, folder):
  looked_at = [cell.strip() for cell in itertools.islice(cells, _NUM_LOOKED_AT)]
  there = [
    cell
    for cell in looked_at
    # Not a path that leads elsewhere, which would be refused.
    if cell and '..' not in cell and cell[0] not in '/\\'
    if (folder / cell).is_file()
  ]
  return 2 * len(there) >= len(looked_at) > 0
