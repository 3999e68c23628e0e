"""The contributions of the words on a poster to the scores of its genres.

The text branch is linear: the logits are sums over n-grams, and the share of a
word is the sum of those of its n-grams. No approximation is needed.
"""

import collections
from collections.abc import Sequence

import jax
import numpy as np

from genre_flax.datasets.posters import poster_text
from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import params
from genre_flax.models import text_branch

_MAX_LETTERS = 40  # Lines without spaces may be read as one word.


class WordExplainer:
  """Contributions of words to the logits of a network with a text branch."""

  def __init__(self, predictor: predictor_lib.Predictor):
    """Wraps a network.

    Args:
      predictor: of a network for which `predictor.text` is not None.
    """
    self._features = predictor.text
    self.genres = predictor.genres
    variables = jax.device_get(predictor.variables)
    statistics = variables['batch_stats']
    scale = statistics.get(text_branch.SCALES, (0.0, 1.0))[1]
    name = params.TEXT if params.TEXT in variables['params'] else params.HEAD
    self._kernel = float(scale) * variables['params'][name]['kernel']

  def contributions(
    self, lines: Sequence[poster_text.Line]
  ) -> tuple[list[str], np.ndarray]:
    """The contribution of each word of a text to the logits.

    Args:
      lines: of one poster.

    Returns:
      W different words in the order of the text, and float32 [W, num_genres].
    """
    by_word = self._features.by_word(lines)
    rows = [
      np.asarray(list(weights.values()), np.float32)
      @ self._kernel[list(weights)]
      for weights in by_word.values()
    ]
    shape = (0, len(self.genres))
    words = [word[:_MAX_LETTERS] for word in by_word]
    return words, np.stack(rows) if rows else np.zeros(shape)

  def strongest_by_genre(
    self,
    texts: Sequence[Sequence[poster_text.Line]],
    *,
    number: int = 8,
    min_posters: int = 3,
  ) -> list[list[tuple[str, float, int]]]:
    """The words with the largest mean contributions to each genre.

    Args:
      texts: of some posters.
      number: of words per genre, at most.
      min_posters: posters that have a word, at least.

    Returns:
      Per genre, words with the mean of their contributions over the posters
      that have them, above 0, and the number of these posters.
    """
    sums, counts = {}, collections.Counter()
    for lines in texts:
      for word, values in zip(*self.contributions(lines), strict=True):
        sums[word] = sums.get(word, 0.0) + values
        counts[word] += 1
    words = [word for word in sums if counts[word] >= min_posters]
    if not words:
      return [[] for _ in self.genres]
    means = np.stack([sums[word] / counts[word] for word in words])
    return [
      [
        (words[i], float(means[i, genre]), counts[words[i]])
        for i in np.argsort(-means[:, genre], kind='stable')[:number]
        if means[i, genre] > 0
      ]
      for genre in range(len(self.genres))
    ]

  def strongest(
    self, lines: Sequence[poster_text.Line], genre: int, *, number: int = 3
  ) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """The words with the largest contributions for and against a genre.

    Args:
      lines: of one poster.
      genre: index of the genre.
      number: of words for, and of words against, at most.

    Returns:
      Words and contributions above 0, the largest first, and those below 0.
    """
    words, values = self.contributions(lines)
    order = np.argsort(-values[:, genre], kind='stable')
    pairs = [(words[i], float(values[i, genre])) for i in order]
    return (
      [pair for pair in pairs[:number] if pair[1] > 0],
      [pair for pair in pairs[::-1][:number] if pair[1] < 0],
    )
