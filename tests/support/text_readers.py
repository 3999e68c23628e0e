"""A reader of text whose words follow from the colors of a poster."""

import numpy as np

from genre_flax.datasets.posters import poster_text

READER = 'tests.support.text_readers:ColorReader'
# Options of a small text branch.
OPTIONS = {'model.text.num_buckets': 512, 'model.text.max_ngrams': 64}


class ColorReader:
  """Reads 'bright' or 'dark', for the mean of a poster, and a filler."""

  name = 'colors 1'

  def __call__(self, image):
    """One line, at the top of the poster."""
    word = 'bright' if np.asarray(image).mean() > 127 else 'dark'
    return [poster_text.Line(f'THE {word} FILM', 0.9, (0.1, 0.1, 0.9, 0.2))]
