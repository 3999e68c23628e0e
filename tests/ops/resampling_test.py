import numpy as np

from genre_flax.ops import ops


def test_central_crop_against_hand_computed_rows():
  images = np.random.default_rng(0).uniform(0, 255, (2, 12, 10, 3))
  np.testing.assert_allclose(ops.central_crop(images, 1.0), images, atol=1e-4)
  # 12 rows of 0, 1, ... 11; the middle half is rows 3 to 8, whose pixel centers
  # are 3.5 to 8.5; every output pixel is half a row.
  rows = np.arange(12.0)[None, :, None, None] * np.ones((2, 12, 10, 3))
  expected = 3 + (np.arange(12) + 0.5) / 2 - 0.5
  crops = np.asarray(ops.central_crop(rows, 0.5))
  assert crops.shape == (2, 12, 10, 3)
  np.testing.assert_allclose(crops[1, :, 4, 2], expected, atol=1e-5)
  columns = np.swapaxes(rows, 1, 2)
  crops = np.asarray(ops.central_crop(columns, 0.5))
  np.testing.assert_allclose(crops[0, 7, :, 1], expected, atol=1e-5)
