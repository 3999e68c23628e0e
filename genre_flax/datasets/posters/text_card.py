"""The entries of a data card about the text on the posters."""

import collections
from collections.abc import Iterable, Sequence
import hashlib
import re
from typing import Any

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import poster_text

NUM_WORDS = 8  # Per genre.
MIN_POSTERS = 3  # With a word and a genre.
_MAX_LETTERS = 30
# Two or more letters; digits and punctuation separate words.
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def with_engine(card: dict[str, Any], engine: str) -> dict[str, Any]:
  """The card with the fingerprint of the posters and the engine's name.

  Args:
    card: of a dataset with or without text.
    engine: name of the engine.
  """
  card = dict(card)
  card.pop('text', None)
  base = card.pop('base_fingerprint', card['fingerprint'])
  digest = hashlib.sha256(f'{base} {engine}'.encode()).hexdigest()
  return {**card, 'fingerprint': digest[:16], 'base_fingerprint': base}


def words_of(lines: Iterable[poster_text.Line]) -> set[str]:
  """The different words of some lines, in lower case."""
  found = _WORD.findall(' '.join(line.text for line in lines).casefold())
  return {word for word in found if 1 < len(word) <= _MAX_LETTERS}


def describe(
  examples: Sequence[collection_lib.Example],
  texts: Iterable[tuple[poster_text.Line, ...]],
  *,
  genres: Sequence[str],
) -> dict[str, Any]:
  """Summarizes the text on the posters.

  Args:
    examples: the posters.
    texts: the lines on each poster, in their order.
    genres: of the dataset.

  Returns:
    The number of posters with text by split, the mean number of characters per
    poster, and by genre the words of the training split with the largest
    shares of posters, relative to the words' shares of all posters. Words have
    MIN_POSTERS posters of the genre, and larger shares than overall.
  """
  num_characters = 0
  with_text = dict.fromkeys((example.split for example in examples), 0)
  # Of the training split, for None and each genre: posters, and those with a
  # word.
  num_posters = collections.Counter()
  counts = collections.defaultdict(collections.Counter)
  for example, lines in zip(examples, texts, strict=True):
    num_characters += sum(len(line.text) for line in lines)
    with_text[example.split] += bool(lines)
    if example.split != 'train':
      continue
    words = words_of(lines)
    for group in (None, *example.genres):
      num_posters[group] += 1
      counts[group].update(words)

  def distinctive(genre):
    shares = {
      word: count / counts[None][word]
      for word, count in counts[genre].items()
      if count >= MIN_POSTERS
      and count * num_posters[None] > counts[None][word] * num_posters[genre]
    }
    order = sorted(shares, key=lambda w: (-shares[w], -counts[genre][w], w))
    return order[:NUM_WORDS]

  return {
    'num_with_text': dict(sorted(with_text.items())),
    'mean_characters': round(num_characters / len(examples), 1),
    'words': {genre: distinctive(genre) for genre in genres},
  }
