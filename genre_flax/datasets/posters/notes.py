"""Notes about genres that are likely to be wrong, with flags to fix them."""

import collections
from collections.abc import Iterable, Sequence

from genre_flax.datasets.posters import columns as columns_lib
from genre_flax.datasets.posters import genre_lists
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.runtime import text as text_lib


def of_rows(
  reader: rows_lib.RowReader,
  names: columns_lib.ColumnRoles,
  missing: Sequence[str],
) -> list[str]:
  """Notes about the genre lists of one file, and its missing values."""
  notes = []
  if reader.missing:
    rows = text_lib.join_first([str(row) for row in reader.missing])
    values = ', '.join(missing) or '[]'
    notes.append(
      f'{len(reader.missing):,} rows have a missing value as a genre'
      f' ({values}): rows {rows}; --keep_na keeps names as genres.'
    )
  if reader.num_grouped:
    notes.append(
      f"{reader.num_grouped:,} rows have a further genre of an earlier row's"
      ' film, and are joined with it: a film has a row for each of its genres.'
    )
  spaced = [name for name in names.listed if ' ' in name]
  words = collections.Counter(word for name in spaced for word in name.split())
  num_repeated = sum(count > 1 for count in words.values())
  if names.is_long and 2 * num_repeated > len(words) > 2:
    notes.append(
      'The genre lists look like words separated by spaces, such as'
      f" {min(spaced)!r}; if they are, give --genre_separator=' '."
    )
  return notes


def of_genres(rows: Iterable[rows_lib.Annotation]) -> list[str]:
  """Notes about the genres of all sources."""
  notes = []
  counts, first_rows = collections.Counter(), {}
  for row in rows:
    counts.update(row.genres)
    for genre in row.genres:
      first_rows.setdefault(genre, row)
  variants = collections.defaultdict(list)
  for genre, _ in counts.most_common():
    variants[genre_lists.key(genre)].append(genre)
  lines = [
    f'\n{other} = {first}  # {first_rows[other].file}, row'
    f' {first_rows[other].row}'
    for first, *others in variants.values()
    for other in others
  ]
  if lines:
    notes.append(
      'Genres differ only by case, spaces or hyphens; to join them, write these'
      f' lines to a file and give --genre_names=FILE:{"".join(lines)}'
    )
  single = [
    f'{genre} (row {first_rows[genre].row})'
    for genre, count in sorted(counts.items())
    if count == 1
  ]
  if len(counts) >= 5 and 2 * len(single) > len(counts):
    notes.append(
      f'{len(single):,} of {len(counts):,} genres have one poster only:'
      f' {text_lib.join_first(single)}. If these are not genres, name their'
      ' column with --genre_column, or the separator in the lists with'
      ' --genre_separator.'
    )
  return notes
