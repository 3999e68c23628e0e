"""The data card: what a prepared data set holds, for people and programs."""

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import manifest
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.runtime import text as text_lib

# Of an example, that the card is made of.
_COLUMNS = (
  'id',
  'film',
  'source',
  'genres',
  'split',
  'height',
  'width',
  'sha256',
  'is_reencoded',
)


def make(collection: collection_lib.Collection) -> dict[str, Any]:
  """Counts everything that a user of the data set should know.

  Args:
    collection: with at least one example.

  Returns:
    A card that JSON can hold. `label_prior` is each genre's share of positives
    in the training split, in the order of `genres`; `label_sets` are the sets
    of genres of its posters with their numbers of posters.
  """
  frame = pd.DataFrame(
    {
      name: [getattr(example, name) for example in collection.examples]
      for name in _COLUMNS
    }
  )
  labels = _to_labels(frame.genres, collection.genres)
  train_labels = labels[frame.split == 'train']
  return {
    'fingerprint': collection.fingerprint(),
    # The file that has the digests of all others.
    'digests': manifest.FILE_NAME,
    'sources': _describe_sources(frame, collection),
    'genres': list(collection.genres),
    'num_examples': len(frame),
    'splits': {
      split: _describe_split(labels[frame.split == split])
      for split in rows_lib.SPLITS
      if (frame.split == split).any()
    },
    'label_prior': train_labels.mean().fillna(0.0).tolist(),
    'label_sets': _count_label_sets(
      frame.genres[frame.split == 'train'], collection.genres
    ),
    'image_size': {
      'height': _describe_sizes(frame.height),
      'width': _describe_sizes(frame.width),
      'max_side': collection.max_side,
      'num_reencoded': int(frame.is_reencoded.sum()),
    },
    'duplicates': _describe_duplicates(frame, collection),
    'films': _describe_films(frame, collection.annotations),
    'excluded_rows': sum(
      annotations.num_excluded for annotations in collection.annotations
    ),
    'skipped': problems_lib.count_by_kind(collection.problems),
  }


def _describe_sources(frame, collection):
  return [
    {
      'csv': source.name or str(source.csv),
      'images': source.name or str(source.images),
      'encoding': annotations.encoding,
      'ignored_columns': list(annotations.ignored_columns),
      'rows': annotations.num_rows,
      'posters': int((frame.source == number).sum()),
    }
    for number, (source, annotations) in enumerate(
      zip(collection.sources, collection.annotations, strict=True)
    )
  ]


def _describe_duplicates(frame, collection):
  return {
    'num_repeated_rows': sum(
      annotations.num_repeated for annotations in collection.annotations
    ),
    'num_merged_posters': collection.num_merged,
    **_identical_images(frame),
  }


def _to_labels(of_posters: pd.Series, genres: Sequence[str]) -> pd.DataFrame:
  """[posters, genres] of 0 and 1."""
  place = {genre: number for number, genre in enumerate(genres)}
  labels = np.zeros((len(of_posters), len(genres)), int)
  for row, names in zip(labels, of_posters, strict=True):
    row[[place[name] for name in names]] = 1
  return pd.DataFrame(labels, columns=list(genres))


def _count_label_sets(
  of_posters: pd.Series, genres: Sequence[str]
) -> list[list[Any]]:
  """The sets of genres and their numbers of posters, most frequent first."""
  index = {genre: i for i, genre in enumerate(genres)}
  counts = collections.Counter(
    tuple(sorted({index[name] for name in names})) for names in of_posters
  )
  return [
    [[genres[i] for i in indices], number]
    for indices, number in sorted(
      counts.items(), key=lambda item: (-item[1], item[0])
    )
  ]


_text = text_lib.for_markdown


def _describe_split(labels: pd.DataFrame) -> dict[str, Any]:
  """Counts of one split, of its [posters, genres]."""
  numbers = labels.sum(axis='columns')
  return {
    'num_examples': len(labels),
    'genres': labels.sum().to_dict(),
    'genres_per_poster': {
      str(number): int(count)
      for number, count in numbers.value_counts().sort_index().items()
    },
    'mean_genres_per_poster': float(numbers.mean()),
  }


def _describe_sizes(sizes: pd.Series) -> dict[str, int]:
  return {
    'min': int(sizes.min()),
    'median': int(sizes.median()),
    'max': int(sizes.max()),
  }


def _describe_films(
  frame: pd.DataFrame, annotations: Sequence[annotations_lib.Annotations]
) -> dict[str, Any]:
  """Which films have several posters, and where the sources overlap."""
  rows = pd.DataFrame(
    [
      (row.id, number, row.genres)
      for number, one in enumerate(annotations)
      for row in one.rows
    ],
    columns=['film', 'source', 'genres'],
  ).groupby('film', sort=False)
  return {
    'num_films': int(frame.film.nunique()),
    'num_with_several_posters': int((frame.film.value_counts() > 1).sum()),
    'in_several_sources': _films(rows.source.nunique() > 1),
    'with_other_genres_elsewhere': _films(rows.genres.nunique() > 1),
  }


def _films(chosen: pd.Series) -> list[str]:
  return chosen.index[chosen].tolist()


def _identical_images(frame: pd.DataFrame) -> dict[str, list[list[str]]]:
  """Ids of posters whose files have the same bytes, in groups."""
  repeated = frame[frame.duplicated('sha256', keep=False)]
  groups = [group for _, group in repeated.groupby('sha256', sort=False)]
  return {
    'identical_images': [group.id.tolist() for group in groups],
    'identical_with_other_genres': [
      group.id.tolist() for group in groups if group.genres.nunique() > 1
    ],
    'identical_in_other_splits': [
      group.id.tolist() for group in groups if group.split.nunique() > 1
    ],
  }


def to_markdown(card: dict[str, Any]) -> str:
  """The card as a page of Markdown that also reads well in a terminal."""
  splits = card['splits']
  lines = _facts(card)
  lines += ['', '## Rows', '']
  lines += _table(
    ['what became of them', 'rows'],
    [[fate, f'{count:,}'] for fate, count in _fates(card)],
  )
  if card['skipped']:
    lines += ['', 'Those skipped are listed in skipped.csv.']
  lines += ['', '## Splits', '']
  lines += _table(
    ['split', 'posters', 'genres a poster'],
    [
      [
        split,
        f'{described["num_examples"]:,}',
        f'{described["mean_genres_per_poster"]:.2f}',
      ]
      for split, described in splits.items()
    ],
  )
  lines += ['', '## Genres', '']
  lines += _table(
    ['genre', *splits, 'share of train'],
    [
      [
        _text(genre),
        *(f'{described["genres"][genre]:,}' for described in splits.values()),
        f'{100 * prior:.1f} %',
      ]
      for genre, prior in zip(card['genres'], card['label_prior'], strict=True)
    ],
  )
  return '\n'.join(lines) + '\n'


def _facts(card: dict[str, Any]) -> list[str]:
  """The title, and what there is to say of the whole."""
  lines = [
    '# Data card: posters',
    '',
    f'{card["num_examples"]:,} posters, {len(card["genres"])} genres,'
    f' fingerprint {card["fingerprint"]}',
    '',
  ]
  for source in card['sources']:
    lines += [
      f'- CSV: {_text(source["csv"])} ({source["rows"]:,} rows,'
      f' {source["encoding"]})',
      f'- Images: {_text(source["images"])} ({source["posters"]:,} posters)',
    ]
    if source['ignored_columns']:
      ignored = ', '.join(map(_text, source['ignored_columns']))
      lines.append(f'- Ignored columns: {ignored}')
  for side in ('height', 'width'):
    sizes = card['image_size'][side]
    lines.append(
      f'- {side.capitalize()}: {sizes["min"]} to {sizes["max"]} pixels, median'
      f' {sizes["median"]}'
    )
  lines.append(
    f'- Converted to RGB JPEG: {card["image_size"]["num_reencoded"]:,}'
  )
  duplicates = card['duplicates']
  lines.append(
    f'- Groups of identical images: {len(duplicates["identical_images"])}'
    f' ({len(duplicates["identical_with_other_genres"])} with unlike genres,'
    f' {len(duplicates["identical_in_other_splits"])} across splits)'
  )
  films = card['films']
  lines += [
    f'- Films: {films["num_films"]:,}, of them'
    f' {films["num_with_several_posters"]:,} with several posters'
  ]
  if len(card['sources']) > 1:
    lines += [
      f'- Overlap: {len(films["in_several_sources"]):,} films are in several'
      f' sources, {len(films["with_other_genres_elsewhere"]):,} of them with'
      ' unlike genres'
    ]
  return lines


def _fates(card: dict[str, Any]) -> list[tuple[str, int]]:
  """What became of the rows, and how many; the last is their number."""
  duplicates = card['duplicates']
  fates = [
    ('posters of the data set', card['num_examples']),
    ('the same row again', duplicates['num_repeated_rows']),
    ('the same film and picture again', duplicates['num_merged_posters']),
    ('excluded genres alone', card['excluded_rows']),
    *((f'skipped: {kind}', n) for kind, n in card['skipped'].items()),
  ]
  num_rows = sum(source['rows'] for source in card['sources'])
  return [*fates, ('rows in all', num_rows)]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
  """A Markdown table, first column left, the others right."""
  widths = [
    max(len(row[column]) for row in [header, *rows])
    for column in range(len(header))
  ]

  def line(cells):
    first, *others = cells
    padded = [first.ljust(widths[0])]
    padded += [
      cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)
    ]
    return f'| {" | ".join(padded)} |'

  rule = ['-' * widths[0]]
  rule += ['-' * (width - 1) + ':' for width in widths[1:]]
  return [line(header), line(rule), *(line(row) for row in rows)]
