"""The data card: what a prepared data set holds, for people and programs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genre_flax.datasets.posters import annotations as annotations_lib
from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import problems as problems_lib


def make(
  collection: collection_lib.Collection, source: collection_lib.Source
) -> dict[str, Any]:
  """Counts everything that a user of the data set should know.

  Args:
    collection: with at least one example.
    source: where it was read from.

  Returns:
    A card that JSON can hold. `label_prior` is each genre's share of positives
    in the training split, in the order of `genres`.
  """
  examples = collection.examples
  by_split = {
    split: [example for example in examples if example.split == split]
    for split in annotations_lib.SPLITS
  }
  annotations = collection.annotations
  return {
    'fingerprint': collection.fingerprint(),
    'source': {
      'csv': source.name or str(source.csv),
      'images': source.name or str(source.images),
      'encoding': annotations.encoding,
      'ignored_columns': list(annotations.ignored_columns),
      'rows': annotations.num_rows,
    },
    'genres': list(collection.genres),
    'num_examples': len(examples),
    'splits': {
      split: _describe_split(members, collection.genres)
      for split, members in by_split.items()
      if members
    },
    'label_prior': label_prior(by_split['train'], collection.genres),
    'image_size': {
      'height': _describe_sizes([example.height for example in examples]),
      'width': _describe_sizes([example.width for example in examples]),
      'max_side': collection.max_side,
      'num_reencoded': sum(example.is_reencoded for example in examples),
    },
    'duplicates': {
      'num_repeated_rows': annotations.num_repeated,
      **_identical_images(examples),
    },
    'skipped': problems_lib.count_by_kind(collection.problems),
  }


def label_prior(
  examples: Sequence[collection_lib.Example], genres: Sequence[str]
) -> list[float]:
  """The share of `examples` that has each genre; zeros without examples."""
  counts = _count_genres(examples, genres)
  return [count / max(1, len(examples)) for count in counts.values()]


def _count_genres(examples, genres) -> dict[str, int]:
  counts = dict.fromkeys(genres, 0)
  for example in examples:
    for genre in example.genres:
      counts[genre] += 1
  return counts


def _describe_split(examples, genres) -> dict[str, Any]:
  numbers = [len(example.genres) for example in examples]
  return {
    'num_examples': len(examples),
    'genres': _count_genres(examples, genres),
    'genres_per_poster': {
      str(number): numbers.count(number) for number in sorted(set(numbers))
    },
    'mean_genres_per_poster': float(np.mean(numbers)),
  }


def _describe_sizes(sizes: Sequence[int]) -> dict[str, int]:
  return {
    'min': int(np.min(sizes)),
    'median': int(np.median(sizes)),
    'max': int(np.max(sizes)),
  }


def _identical_images(examples) -> dict[str, Any]:
  groups: dict[str, list[collection_lib.Example]] = {}
  for example in examples:
    groups.setdefault(example.sha256, []).append(example)
  repeated = [group for group in groups.values() if len(group) > 1]
  return {
    'identical_images': [[e.id for e in group] for group in repeated],
    'identical_with_other_genres': [
      [e.id for e in group]
      for group in repeated
      if len({e.genres for e in group}) > 1
    ],
    'identical_in_other_splits': [
      [e.id for e in group]
      for group in repeated
      if len({e.split for e in group}) > 1
    ],
  }


def to_markdown(card: dict[str, Any]) -> str:
  """The card as a page of Markdown that also reads well in a terminal."""
  splits = card['splits']
  lines = [
    '# Data card: posters',
    '',
    f'{card["num_examples"]:,} posters, {len(card["genres"])} genres,'
    f' fingerprint {card["fingerprint"]}',
    '',
    f'- CSV: {card["source"]["csv"]} ({card["source"]["rows"]:,} rows,'
    f' {card["source"]["encoding"]})',
    f'- Images: {card["source"]["images"]}',
  ]
  if card['source']['ignored_columns']:
    lines.append(
      f'- Ignored columns: {", ".join(card["source"]["ignored_columns"])}'
    )
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
  lines += [
    f'- Rows merged with an equal one: {duplicates["num_repeated_rows"]}',
    f'- Groups of identical images: {len(duplicates["identical_images"])}'
    f' ({len(duplicates["identical_with_other_genres"])} with unlike genres,'
    f' {len(duplicates["identical_in_other_splits"])} across splits)',
  ]
  if card['skipped']:
    kinds = (f'{count} {kind}' for kind, count in card['skipped'].items())
    lines.append(f'- Skipped: {", ".join(kinds)} (see skipped.csv)')
  else:
    lines.append('- Skipped: none')
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
        genre,
        *(f'{described["genres"][genre]:,}' for described in splits.values()),
        f'{100 * prior:.1f} %',
      ]
      for genre, prior in zip(card['genres'], card['label_prior'], strict=True)
    ],
  )
  return '\n'.join(lines) + '\n'


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
