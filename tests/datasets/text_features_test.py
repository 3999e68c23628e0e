"""Tests of the features of text."""

import collections
import math
import zlib

import numpy as np
import pytest
from sklearn.feature_extraction import text as sklearn_text

from genre_flax.datasets.posters import poster_text
from genre_flax.datasets.posters import text_features

FEATURES = text_features.TextFeatures(
  num_buckets=2**20, max_ngrams=512, max_word_ngram=2, char_ngrams=(3, 5)
)
LINES = [
  poster_text.Line('The Night of the NIGHT', 1.0, (0.1, 0.0, 0.9, 0.2)),
  poster_text.Line('Amélie, 2001!', 0.5, (0.2, 0.5, 0.6, 0.6)),
]


def bucket(ngram):
  return 8 + zlib.crc32(ngram.encode()) % (2**20 - 8)


def as_dict(values):
  pairs = zip(values['text_ids'], values['text_weights'], strict=True)
  return {int(i): float(weight) for i, weight in pairs if weight}


def test_ngrams_are_those_of_scikit_learn():
  """Of each line; scikit-learn pads words with spaces."""
  expected = {1: 1.0, **text_features.layout_statistics(LINES)}
  for analyzer, sizes in (('word', (1, 2)), ('char_wb', (3, 5))):
    analyze = sklearn_text.CountVectorizer(
      analyzer=analyzer,
      ngram_range=sizes,
      strip_accents='unicode',
      token_pattern=r'[^\W_]+',
      preprocessor=None,
    ).build_analyzer()
    counts = collections.Counter()
    for line in LINES:
      content = line.text.replace(',', '').replace('!', '')
      for ngram in analyze(content):
        if analyzer == 'char_wb':
          if len(ngram) < 3:
            continue
          ngram = '#' + ngram.replace(' ', '<', 1) if ngram[0] == ' ' else ngram
          ngram = '#' + ngram.lstrip('#').replace(' ', '>')
        counts[bucket(ngram)] += 1
    norm = math.sqrt(sum((1 + math.log(n)) ** 2 for n in counts.values()))
    expected |= {i: (1 + math.log(n)) / norm for i, n in counts.items()}
  assert as_dict(FEATURES(LINES)) == pytest.approx(expected, rel=1e-6)


def test_layout_statistics():
  number, area, height, length = text_features.layout_statistics(LINES).values()
  assert number == pytest.approx(math.log(3) / 4)
  assert area == pytest.approx(0.8 * 0.2 + 0.4 * 0.1)
  assert height == pytest.approx(0.2)
  assert length == pytest.approx(math.log(1 + 22 + 13) / 8)


def test_a_poster_without_text_differs_from_one_that_was_not_read():
  assert as_dict(FEATURES([])) == {1: 1.0}


def test_long_texts_keep_the_words():
  words = [f'word{i}' for i in range(40)]
  line = poster_text.Line(' '.join(words), 1.0, (0, 0, 1, 1))
  short = text_features.TextFeatures(
    num_buckets=2**20, max_ngrams=48, max_word_ngram=1, char_ngrams=(3, 3)
  )
  found = as_dict(short([line]))
  assert len(found) == 48
  assert found.keys() >= {bucket(word) for word in words}


def test_weights_by_word_add_up_even_if_ids_collide():
  small = text_features.TextFeatures(
    num_buckets=64, max_ngrams=512, max_word_ngram=2, char_ngrams=(3, 5)
  )
  totals = collections.Counter()
  for weights in small.by_word(LINES).values():
    totals.update(weights)
  values = small(LINES)
  expected = collections.Counter()
  for i, weight in zip(values['text_ids'], values['text_weights'], strict=True):
    if i >= 8:
      expected[int(i)] += float(weight)
  assert dict(totals) == pytest.approx(dict(expected), rel=1e-5)


@pytest.mark.parametrize(
  'text', ['<b>', '=1+1', '\u202e', 'x' * 5000, '\U0001f3ac']
)
def test_odd_texts(text):
  values = FEATURES([poster_text.Line(text, 1.0, (0, 0, 1, 1))])
  assert np.isfinite(values['text_weights']).all()
  assert values['text_ids'].max() < 2**20
