"""Pictures of batches, by their pixels."""

import numpy as np
from PIL import Image
import pytest

from genre_flax.reports import batch_sheet

GENRES = ('Comedy', 'Drama', 'War', 'Western')


def test_pixels_are_enlarged_without_smoothing(tmp_path):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (9, 30, 60, 3), np.uint8)
  path = tmp_path / 'batch.png'
  batch_sheet.write(
    path,
    images,
    labels=np.eye(9, 4),
    ids=[f'tt{i:07}' for i in range(9)],
    genres=GENRES,
  )
  with Image.open(path) as picture:
    sheet = np.asarray(picture)
  # Eight columns of images of 3 x 3 pixels per pixel; the ninth in a new row.
  left, top = 14 + 7 * (180 + 14), 14
  shown = sheet[top : top + 90 : 3, left : left + 180 : 3]
  np.testing.assert_array_equal(shown, images[7])
  top += 90 + 2 * 17 + 14
  np.testing.assert_array_equal(
    sheet[top : top + 90, 14:194][::3, ::3], images[8]
  )


@pytest.mark.parametrize(
  'labels, expected',
  [
    ([0, 0, 0, 0], ''),
    ([0, 1, 0, 1], 'Drama, Western'),
    ([0.25, 1, 0.75, 0], 'Comedy 0.25, Drama, War 0.75'),
  ],
)
def test_labels_are_named_with_their_shares(labels, expected):
  assert batch_sheet.describe_labels(np.array(labels), GENRES) == expected
