"""Contact sheets, by their pixels."""

import io

import numpy as np
from PIL import Image

from genre_flax.reports import contact_sheet

GENRES = ('Comedy', 'Drama', 'War', 'Western')


def make_entry(color, labels=(0, 1, 0, 0)):
  return contact_sheet.Entry(
    image=np.full((30, 20, 3), color, np.uint8),
    scores=np.array([0.1, 0.9, 0.5, 0.2]),
    labels=None if labels is None else np.array(labels),
    name='tt0000001 with a name that is wider than its cell',
  )


def draw(entries, **kwargs):
  content = contact_sheet.draw(entries, genres=GENRES, **kwargs)
  image = Image.open(io.BytesIO(content))
  assert image.format == 'PNG'
  return np.asarray(image.convert('RGB')).astype(int)


def has_color(pixels, color):
  return bool((np.abs(pixels - np.array(color)).sum(axis=-1) < 12).any())


def test_all_posters_are_drawn():
  colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
  sheet = draw([make_entry(color) for color in colors], columns=2)
  for color in colors:
    assert (sheet == color).all(axis=-1).sum() >= 180 * 264


def test_colors_of_predictions():
  known, unknown = (
    draw([make_entry((0, 0, 0), labels)]) for labels in ((0, 1, 0, 0), None)
  )
  assert has_color(known, contact_sheet._CORRECT)
  assert has_color(known, contact_sheet._WRONG)
  assert not has_color(unknown, contact_sheet._CORRECT)
  assert not has_color(unknown, contact_sheet._WRONG)
