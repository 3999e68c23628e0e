"""Contact sheets, by their pixels."""

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.attribution import map_images
from genre_flax.reports import contact_sheet

GENRES = ('Comedy', 'Drama', 'War', 'Western')


def make_poster(color, labels=(0, 1, 0, 0)):
  image = np.full((30, 20, 3), color, np.uint8)
  return map_images.Poster(
    image=image,
    pixels=image,
    scores=np.array([0.1, 0.9, 0.5, 0.2]),
    labels=None if labels is None else np.array(labels),
    name='tt0000001 with a name that is wider than its cell',
  )


@pytest.fixture
def draw(tmp_path):
  def draw(posters):
    path = contact_sheet.write(epath.Path(tmp_path), posters, genres=GENRES)
    with Image.open(path) as image:
      return np.asarray(image.convert('RGB')).astype(int)

  return draw


def has_color(pixels, color):
  return bool((np.abs(pixels - np.array(color)).sum(axis=-1) < 12).any())


def test_sheet_contains_all_posters(draw):
  colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
  sheet = draw([make_poster(color) for color in colors * 3])
  for color in colors:
    assert (sheet == color).all(axis=-1).sum() >= 3 * 180 * 264


def test_colors_of_predictions(draw):
  known, unknown = (
    draw([make_poster((0, 0, 0), labels)]) for labels in ((0, 1, 0, 0), None)
  )
  assert has_color(known, contact_sheet._CORRECT)
  assert has_color(known, contact_sheet._WRONG)
  assert not has_color(unknown, contact_sheet._CORRECT)
  assert not has_color(unknown, contact_sheet._WRONG)


def test_inputs_of_a_network_are_not_smoothed(draw):
  image = np.random.default_rng(0).integers(0, 256, (22, 15, 3), np.uint8)
  labels = np.array([0.25, 1, 0, 0])
  sheet = draw([map_images.Poster('tt1', image, None, None, labels)])
  # 12 x 12 pixels per pixel.
  np.testing.assert_array_equal(sheet[14:278:12, 14:194:12], image)
  assert contact_sheet._describe(labels, GENRES) == ['Comedy 0.25', 'Drama']
