"""Features of the text on a poster: hashed n-grams and layout statistics.

A poster's text becomes pairs of an id and a weight, as in scikit-learn's
HashingVectorizer: word n-grams, character n-grams within words, and statistics
of the layout, whose ids are reserved.
"""

import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
import re
from typing import Any
import unicodedata
import zlib

import numpy as np

from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import poster_text

# 0 is padding; the weight of 1 is 1 for every poster whose text was read; the
# statistics of the layout and the n-grams follow.
_READ_ID = 1
_LAYOUT_IDS = range(2, 6)
_FIRST_ID = 8
# The version of the hashing, for readers of an export.
HASHING = 'crc32-utf8'
_WORD = re.compile(r'[^\W_]+')


@dataclasses.dataclass(frozen=True)
class TextInput:
  """An input of a network that is computed from the text.

  Attributes:
    name: of its entry in a batch, and of the parameter of a network.
    dtype: of the array.
    shape: of the array of one poster.
    default: value where there is no text.
  """

  name: str
  dtype: np.dtype
  shape: tuple[int, ...]
  default: float = 0.0


# An input of a network besides images: name, dtype, shape of one example, and
# default.
SideInput = extra_columns.ExtraColumn | TextInput


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFeatures:
  """Maps the text of a poster to ids and weights, both [K].

  The id of an n-gram is 8 + h % (num_buckets - 8), where h is the CRC-32 of the
  n-gram in UTF-8. Words are joined by a space; n-grams of characters follow
  '#', and the boundaries of a word are '<' and '>'.

  Attributes:
    num_buckets: number of ids, of which the first 8 are reserved.
    max_ngrams: K; of a longer text, n-grams of words are kept before those of
      characters, and frequent ones before rare ones.
    max_word_ngram: longest sequence of words of a line; 0: no words.
    char_ngrams: shortest and longest sequence of characters of a word with its
      boundaries; (0, 0): no characters.
  """

  num_buckets: int
  max_ngrams: int
  max_word_ngram: int
  char_ngrams: tuple[int, int]

  @property
  def inputs(self) -> tuple[TextInput, TextInput]:
    """The inputs of a network: 'text_ids' and 'text_weights'."""
    shape = (self.max_ngrams,)
    return (
      TextInput('text_ids', np.dtype(np.int32), shape),
      TextInput('text_weights', np.dtype(np.float32), shape),
    )

  def __call__(
    self, lines: Sequence[poster_text.Line]
  ) -> dict[str, np.ndarray]:
    """The inputs of one poster.

    The weight of an n-gram is 1 + log(count); those of words and those of
    characters are scaled to a norm of 1 each.

    Returns:
      {'text_ids': int32 [K], 'text_weights': float32 [K]}, padded with zeros.
    """
    ids = np.zeros(self.max_ngrams, np.int32)
    weights = np.zeros(self.max_ngrams, np.float32)
    pairs = [(_READ_ID, 1.0)]
    pairs += layout_statistics(lines).items() if lines else ()
    for counts in self._count(lines):
      norm = math.sqrt(sum((1 + math.log(n)) ** 2 for n in counts.values()))
      pairs += [(i, (1 + math.log(n)) / norm) for i, n in counts.most_common()]
    pairs = pairs[: self.max_ngrams]
    ids[: len(pairs)], weights[: len(pairs)] = zip(*pairs, strict=True)
    return {'text_ids': ids, 'text_weights': weights}

  def by_word(
    self, lines: Sequence[poster_text.Line]
  ) -> dict[str, dict[int, float]]:
    """The weights of `__call__` by word, which add up to them.

    The weight of an n-gram is divided equally among its words and occurrences.

    Returns:
      {word: {id: weight}}, in the order of the text.
    """
    values = self(lines)
    # A word and a sequence of characters may have the same id.
    weights = collections.Counter()
    for i, weight in zip(
      values['text_ids'].tolist(), values['text_weights'].tolist(), strict=True
    ):
      weights[i] += weight
    counts = sum(self._count(lines), collections.Counter())
    shares: dict[str, dict[int, float]] = {}
    for line in lines:
      tokens = tokenize(line.text)
      ngrams = [*self._word_ngrams(tokens), *self._character_ngrams(tokens)]
      for ngram, words in ngrams:
        share = weights.get(ngram, 0.0) / counts[ngram] / len(words)
        for word in words:
          of_word = shares.setdefault(word, {})
          of_word[ngram] = of_word.get(ngram, 0.0) + float(share)
    return shares

  def _count(self, lines):
    """Counts of the ids of word n-grams, and of character n-grams."""
    words, characters = collections.Counter(), collections.Counter()
    for line in lines:
      tokens = tokenize(line.text)
      words.update(i for i, _ in self._word_ngrams(tokens))
      characters.update(i for i, _ in self._character_ngrams(tokens))
    return words, characters

  def _word_ngrams(self, tokens: Sequence[str]) -> Iterator[tuple[int, list]]:
    """Ids and words of the word n-grams of a line."""
    for length in range(1, self.max_word_ngram + 1):
      for start in range(len(tokens) - length + 1):
        words = tokens[start : start + length]
        yield self._hash(' '.join(words)), words

  def _character_ngrams(
    self, tokens: Sequence[str]
  ) -> Iterator[tuple[int, list]]:
    """Ids and words of the character n-grams of a line."""
    shortest, longest = self.char_ngrams
    for token in tokens if longest else ():
      padded = f'<{token}>'
      for length in range(shortest, longest + 1):
        for start in range(len(padded) - length + 1):
          yield self._hash('#' + padded[start : start + length]), [token]

  def _hash(self, ngram: str) -> int:
    buckets = self.num_buckets - _FIRST_ID
    return _FIRST_ID + zlib.crc32(ngram.encode()) % buckets


def from_config(config: Mapping[str, Any]) -> TextFeatures | None:
  """The features of `config.model`; None for a network of images alone."""
  if not (config['use_text'] or config['name'] == 'text'):
    return None
  options = config['text']
  return TextFeatures(
    num_buckets=options['num_buckets'],
    max_ngrams=options['max_ngrams'],
    max_word_ngram=options['max_word_ngram'],
    char_ngrams=tuple(options['char_ngrams']),
  )


def side_inputs(
  config: Mapping[str, Any], columns: Sequence[extra_columns.ExtraColumn]
) -> tuple[SideInput, ...]:
  """The inputs of a network besides images.

  Args:
    config: `config.model`.
    columns: the extra columns of the dataset.
  """
  features = from_config(config)
  return (*columns, *(features.inputs if features else ()))


def tokenize(text: str) -> list[str]:
  """The words of a line, in lower case and without accents."""
  decomposed = unicodedata.normalize('NFKD', text.casefold())
  return _WORD.findall(
    ''.join(c for c in decomposed if not unicodedata.combining(c))
  )


def layout_statistics(
  lines: Sequence[poster_text.Line],
) -> dict[int, float]:
  """Number, area, largest height and length of the lines, by reserved id."""
  heights = [line.box[3] - line.box[1] for line in lines]
  areas = [
    (line.box[2] - line.box[0]) * height
    for line, height in zip(lines, heights, strict=True)
  ]
  values = (
    math.log1p(len(lines)) / 4,
    min(1.0, sum(areas)),
    max(heights),
    math.log1p(sum(len(line.text) for line in lines)) / 8,
  )
  return dict(zip(_LAYOUT_IDS, values, strict=True))
