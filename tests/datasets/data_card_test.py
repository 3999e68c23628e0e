"""Tests of the data card."""

import dataclasses

from etils import epath
import pytest

from genre_flax.datasets.posters import annotations
from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import problems
from genre_flax.datasets.posters import rows as rows_lib
from genre_flax.datasets.posters import sources


def _example(
  name,
  genres,
  split,
  *,
  film=None,
  source=0,
  size=(10, 20),
  sha256=None,
  png=False,
):
  height, width = size
  return collection.Example(
    id=name,
    film=film or name,
    source=source,
    folder=epath.Path('images'),
    file=f'{name}.jpg',
    genres=genres,
    split=split,
    height=height,
    width=width,
    num_bytes=10,
    sha256=sha256 or name,
    is_reencoded=png,
  )


EXAMPLES = (
  _example('a', ('Drama',), 'train', size=(10, 20), sha256='x'),
  _example('b', ('Drama', 'War'), 'train', size=(40, 30), sha256='x'),
  _example('c', ('War',), 'train', size=(20, 80), png=True),
  _example('d', ('Drama', 'War'), 'train', size=(30, 25), sha256='y'),
  _example('e', ('Drama', 'War'), 'test', sha256='y', png=True),
)


_ANNOTATIONS = annotations.Annotations(
  rows=[],
  genres=('Drama', 'Short', 'War'),
  listed_names=frozenset(),
  problems=[],
  num_rows=14,
  num_repeated=2,
  num_excluded=1,
  ignored_columns=('Title', 'Year'),
  encoding='latin-1',
)


def _make(examples, **changes):
  values = {
    'examples': examples,
    'problems': (
      problems.Problem('p.csv', 3, 'no genre', 'none'),
      problems.Problem('p.csv', 4, 'missing image', 'gone'),
      problems.Problem('p.csv', 5, 'missing image', 'gone'),
    ),
    'sources': (sources.Source(epath.Path('p.csv'), epath.Path('posters')),),
    'annotations': (_ANNOTATIONS,),
    'num_merged': 3,
    'shares': {'train': 80, 'validation': 0, 'test': 20},
    'max_side': 100,
  }
  return data_card.make(collection.Collection(**{**values, **changes}))


@pytest.fixture
def card():
  return _make(EXAMPLES)


def test_the_content_of_a_card(card):
  drama_and_war = [['Drama', 'War'], 2]
  expected = {
    'sources': [
      {
        'csv': 'p.csv',
        'images': 'posters',
        'encoding': 'latin-1',
        'ignored_columns': ['Title', 'Year'],
        'rows': 14,
        'posters': 5,
      }
    ],
    'genres': ['Drama', 'Short', 'War'],
    'num_examples': 5,
    'splits': {
      'train': {
        'num_examples': 4,
        'genres': {'Drama': 3, 'Short': 0, 'War': 3},
        'genres_per_poster': {'1': 2, '2': 2},
        'mean_genres_per_poster': 1.5,
      },
      'test': {
        'num_examples': 1,
        'genres': {'Drama': 1, 'Short': 0, 'War': 1},
        'genres_per_poster': {'2': 1},
        'mean_genres_per_poster': 2.0,
      },
    },
    # Of the training split.
    'label_prior': [0.75, 0.0, 0.75],
    'label_sets': [drama_and_war, [['Drama'], 1], [['War'], 1]],
    # Heights 10, 40, 20, 30, 10 and widths 20, 30, 80, 25, 20, in pixels.
    'image_size': {
      'height': {'min': 10, 'median': 20, 'max': 40},
      'width': {'min': 20, 'median': 25, 'max': 80},
      'max_side': 100,
      'num_reencoded': 2,
    },
    'duplicates': {
      'num_repeated_rows': 2,
      'num_merged_posters': 3,
      'identical_images': [['a', 'b'], ['d', 'e']],
      'identical_with_other_genres': [['a', 'b']],
      'identical_in_other_splits': [['d', 'e']],
    },
    'skipped': {'missing image': 2, 'no genre': 1},
  }
  assert {name: card[name] for name in expected} == expected


def test_a_card_without_a_training_split():
  card = _make(EXAMPLES[-1:])
  assert (card['label_prior'], card['label_sets']) == ([0.0, 0.0, 0.0], [])


def test_markdown(card):
  text = data_card.to_markdown(card)
  assert '- CSV: p.csv (14 rows, latin-1)\n' in text
  assert '- Ignored columns: Title, Year\n' in text
  assert '2 (1 with different genres, 1 across splits)\n' in text
  assert (
    '| only excluded genres    |    1 |\n'
    '| skipped: missing image  |    2 |\n'
    '| skipped: no genre       |    1 |\n'
    '| total                   |   14 |\n'
  ) in text
  assert '| Drama |     3 |    1 |         75.0 % |\n' in text
  assert '| Short |     0 |    0 |           none |\n' in text


def test_overlaps_of_sources_are_listed():
  def annotations_of(*rows):
    return dataclasses.replace(
      _ANNOTATIONS,
      rows=[
        rows_lib.Annotation(
          id=name, image='', genres=genres, split=None, file='', row=2
        )
        for name, genres in rows
      ],
    )

  drama, war = ('Drama',), ('War',)
  card = _make(
    (
      _example('a', drama, 'train'),
      _example('b', drama, 'train'),
      _example('a#2', drama, 'train', film='a', source=1),
      _example('c', war, 'test', source=1),
    ),
    sources=(
      sources.Source(epath.Path('p.csv'), epath.Path('posters')),
      sources.Source(epath.Path('q.csv'), epath.Path('more')),
    ),
    annotations=(
      annotations_of(('a', drama), ('b', drama)),
      annotations_of(('a', drama), ('b', war), ('c', war)),
    ),
  )
  assert [source['posters'] for source in card['sources']] == [2, 2]
  assert card['films'] == {
    'num_films': 3,
    'num_with_several_posters': 1,
    'in_several_sources': ['a', 'b'],
    'with_other_genres_elsewhere': ['b'],
  }
  assert (
    '- Overlap: 2 films are in several sources, 1 of them with different'
    ' genres\n'
  ) in data_card.to_markdown(card)
