"""The data card: a summary of a dataset for people and programs."""

import collections
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.datasets.posters import text_card
from genre_flax.runtime import text as text_lib


def make(collection: collection_lib.Collection) -> dict[str, Any]:
  """Summarizes a collection.

  Returns:
    A JSON-serializable card. `label_prior` is each genre's share of positives
    in the training split, in the order of `genres`; `label_sets` are the sets
    of genres of its posters with their numbers of posters.
  """
  annotations = collection.annotations
  frame = pd.DataFrame(
    {
      field.name: [getattr(one, field.name) for one in collection.examples]
      for field in dataclasses.fields(collection_lib.Example)
    }
  )
  labels = pd.DataFrame(
    {
      # A byte each, since a large dataset has millions of labels.
      genre: np.array([genre in genres for genres in frame.genres], np.int8)
      for genre in collection.genres
    }
  )
  sizes = frame[['height', 'width']].agg(['min', 'median', 'max'])
  is_train = frame.split == 'train'
  return {
    'fingerprint': collection.fingerprint(),
    'sources': _describe_sources(frame, collection),
    'genres': list(collection.genres),
    'num_examples': len(frame),
    'splits': {
      split: describe_split(labels[frame.split == split])
      for split in rows_lib.SPLITS
      if (frame.split == split).any()
    },
    **describe_training(labels[is_train]),
    'extra_columns': [
      extra_columns.describe(
        name, frame.assign(text=[cells[i] for cells in frame.extra])
      )
      for i, name in enumerate(collection.extra_columns)
    ],
    'image_size': {
      **sizes.astype(int).to_dict(),
      'max_side': collection.max_side,
      'num_reencoded': int(frame.is_reencoded.sum()),
    },
    'duplicates': {
      'num_repeated_rows': sum(one.num_repeated for one in annotations),
      'num_merged_posters': collection.num_merged,
      **_describe_identical_images(frame),
    },
    'films': _describe_films(frame, annotations),
    'excluded_rows': sum(one.num_excluded for one in annotations),
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


def describe_training(labels: pd.DataFrame) -> dict[str, Any]:
  """The entries of the training split, by its labels [posters, genres]."""
  names = list(labels.columns)
  label_sets = collections.Counter(
    tuple(names[i] for i in np.flatnonzero(row)) for row in labels.to_numpy()
  )
  return {
    'label_prior': labels.mean().fillna(0.0).tolist(),
    # The most frequent first. Both the genres and those of a poster are sorted.
    'label_sets': [
      [list(genres), count]
      for genres, count in sorted(
        label_sets.items(), key=lambda item: (-item[1], item[0])
      )
    ],
  }


def describe_split(labels: pd.DataFrame) -> dict[str, Any]:
  """Summarizes one split, by its labels [posters, genres]."""
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


def _describe_films(
  frame: pd.DataFrame, annotations: Sequence[annotations_lib.Annotations]
) -> dict[str, Any]:
  """Films with several posters, and films in several sources."""
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


def _describe_identical_images(frame: pd.DataFrame) -> dict[str, list]:
  """Groups of ids of posters whose files have the same bytes."""
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
  """The card as Markdown with aligned tables, readable in a terminal."""
  splits = card['splits']
  lines = _facts(card)
  lines += _section(
    'Rows',
    ['outcome', 'rows'],
    [[outcome, f'{count:,}'] for outcome, count in _row_outcomes(card)],
  )
  if card['skipped']:
    lines += ['', 'Skipped rows are listed in skipped.csv.']
  lines += _section(
    'Splits',
    ['split', 'posters', 'genres per poster'],
    [
      [name, f'{one["num_examples"]:,}', f'{one["mean_genres_per_poster"]:.2f}']
      for name, one in splits.items()
    ],
  )
  lines += _section(
    'Genres',
    ['genre', *splits, 'share of train'],
    [
      [
        text_lib.for_markdown(genre),
        *(f'{one["genres"][genre]:,}' for one in splits.values()),
        f'{100 * prior:.1f} %' if prior else 'none',
      ]
      for genre, prior in zip(card['genres'], card['label_prior'], strict=True)
    ],
  )
  lines += _text_section(card)
  return '\n'.join(lines) + '\n'


def _facts(card: dict[str, Any]) -> list[str]:
  """The title and the properties of the whole dataset."""
  text = text_lib.for_markdown
  lines = [
    '# Data card: posters',
    '',
    f'{card["num_examples"]:,} posters, {len(card["genres"])} genres,'
    f' fingerprint {card["fingerprint"]}',
    '',
  ]
  for source in card['sources']:
    lines += [
      f'- CSV: {text(source["csv"])} ({source["rows"]:,} rows,'
      f' {source["encoding"]})',
      f'- Images: {text(source["images"])} ({source["posters"]:,} posters)',
    ]
    if source['ignored_columns']:
      ignored = ', '.join(map(text, source['ignored_columns']))
      lines.append(f'- Ignored columns: {ignored}')
  for column in card['extra_columns']:
    kind = 'numbers'
    if column['categories'] is not None:
      kind = f'{len(column["categories"]):,} categories'
    lines.append(
      f'- Extra column {text(column["name"])}: {kind}, by default'
      f' {column["default"]:g}; {len(column["missing"]):,} posters without a'
      f' value, {len(column["unknown"]):,} with an unknown category'
    )
  image_size, films = card['image_size'], card['films']
  for side in ('height', 'width'):
    sizes = image_size[side]
    lines.append(
      f'- {side.capitalize()}: {sizes["min"]} to {sizes["max"]} pixels, median'
      f' {sizes["median"]}'
    )
  num_identical, num_other_genres, num_other_splits = (
    len(card['duplicates'][f'identical_{name}'])
    for name in ('images', 'with_other_genres', 'in_other_splits')
  )
  lines += [
    f'- Converted to RGB JPEG: {image_size["num_reencoded"]:,}',
    f'- Groups of identical images: {num_identical} ({num_other_genres} with'
    f' different genres, {num_other_splits} across splits)',
    f'- Films: {films["num_films"]:,}, of which'
    f' {films["num_with_several_posters"]:,} have several posters',
  ]
  if len(card['sources']) > 1:
    lines.append(
      f'- Overlap: {len(films["in_several_sources"]):,} films are in several'
      f' sources, {len(films["with_other_genres_elsewhere"]):,} of them with'
      ' different genres'
    )
  return lines


def _row_outcomes(card: dict[str, Any]) -> list[tuple[str, int]]:
  """Number of rows by outcome; the last entry is the total."""
  duplicates = card['duplicates']
  return [
    ('poster in the dataset', card['num_examples']),
    ('repeated row', duplicates['num_repeated_rows']),
    ('repeated film and image', duplicates['num_merged_posters']),
    ('only excluded genres', card['excluded_rows']),
    *((f'skipped: {kind}', n) for kind, n in card['skipped'].items()),
    ('total', sum(source['rows'] for source in card['sources'])),
  ]


def _section(title: str, header: list[str], rows: list[list[str]]) -> list[str]:
  """A heading and a table; all columns but the first are right-aligned."""
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

  def line(cells):
    padded = [
      cell.rjust(width) if i else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f'| {" | ".join(padded)} |'

  first, *others = widths
  rule = ['-' * first, *('-' * (width - 1) + ':' for width in others)]
  return ['', f'## {title}', '', *map(line, [header, rule, *rows])]


def _text_section(card: dict[str, Any]) -> list[str]:
  """The text on the posters, if the dataset has it."""
  text = card.get('text')
  if text is None:
    return []
  coverage = ', '.join(
    f'{name} {text["num_with_text"][name]:,} of {one["num_examples"]:,}'
    for name, one in card['splits'].items()
  )
  header = [
    'genre',
    'words by share in the genre to share overall'
    f' ({text_card.MIN_POSTERS} or more posters of train)',
  ]
  rows = [
    [
      text_lib.for_markdown(genre),
      text_lib.for_markdown(', '.join(words) or 'none'),
    ]
    for genre, words in text['words'].items()
  ]
  table = _section('Text on the posters', header, rows)
  return [
    *table[:3],
    f'- Engine: {text_lib.for_markdown(text["engine"])}',
    f'- Posters with text: {coverage}',
    f'- Characters per poster: {text["mean_characters"]:,.1f} on average',
    f'- Posters on which the engine failed: {len(text["failed"]):,}',
    '',
    *table[3:],
  ]
