"""Attribution maps as images, and the files of `top3 --explain`."""

import dataclasses

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.attribution import map_images
from genre_flax.datasets.posters import synthetic
from genre_flax.reports import image_report


def test_overlay_changes_poster_where_map_is_high():
  image = np.full((48, 32, 3), 90, np.uint8)
  map_ = np.zeros((12, 8))
  map_[2, 2] = 1
  overlay = map_images.overlay(image, map_)
  assert overlay.shape == image.shape
  assert overlay.dtype == np.uint8
  changed = np.abs(overlay.astype(int) - 90).sum(axis=2)
  y, x = np.unravel_index(changed.argmax(), changed.shape)
  assert abs(y - 10) <= 2 and abs(x - 10) <= 2
  assert changed[30:, 20:].max() == 0


@pytest.mark.slow
def test_writer_draws_poster_and_three_maps(trained_predictor, tmp_path):
  rng = np.random.default_rng(0)
  poster = map_images.Poster(
    name='a/<b> & "c".jpg',
    image=np.full((30, 20, 3), 200, np.uint8),
    pixels=rng.integers(0, 256, (32, 24, 3), np.uint8),
    scores=np.linspace(0.9, 0.1, 12),
  )
  other = dataclasses.replace(poster, scores=poster.scores[::-1])
  writer = map_images.MapWriter(
    trained_predictor, epath.Path(tmp_path), method=None
  )
  writer.write([poster, other], first=7)
  paths = sorted(tmp_path.iterdir())
  assert [path.name for path in paths] == [
    f'0000{number}__b_c_.png' for number in (7, 8)
  ]
  first, second = (np.asarray(Image.open(path)) for path in paths)
  assert first.shape == (264 + 28 + 20, 4 * (180 + 14) + 14, 3)
  assert (first[14:278, 14:194] == 200).all()
  assert (first[:278] != second[:278]).any()  # Maps of other genres.


def test_image_files_have_maps_numbered_by_row(trained_predictor, tmp_path):
  _, folder = synthetic.write_posters(tmp_path, num_posters=4, seed=3)
  (folder / 'synthetic00001.jpg').write_text('no image')
  output = epath.Path(tmp_path / 'out')
  options = {'batch_size': 8, 'explain': True, 'explain_by': 'grad_cam'}
  status = image_report.predict(
    trained_predictor, [str(folder)], output=output, **options
  )
  assert status == 1
  assert sorted(path.name for path in (output / 'maps').iterdir()) == [
    f'0000{row}_synthetic0000{n}.png' for row, n in enumerate((0, 2, 3))
  ]
