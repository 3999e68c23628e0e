import io

import numpy as np
from PIL import Image
import pytest

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images


def encode(image, **kwargs):
  file = io.BytesIO()
  image.save(file, **{'format': 'PNG', **kwargs})
  return file.getvalue()


def test_an_image_of_the_right_size_is_kept_exactly():
  pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
  content = encode(Image.fromarray(pixels))
  np.testing.assert_array_equal(
    image_decoding.decode_and_resize(content, height=7, width=5), pixels
  )


def test_scaling_down_averages():
  # Columns of 0 and 200 in turn: each output pixel covers both.
  pixels = np.zeros((8, 8, 3), np.uint8)
  pixels[:, 1::2] = 200
  out = image_decoding.decode_and_resize(
    encode(Image.fromarray(pixels)), height=4, width=4
  )
  np.testing.assert_allclose(out[:, 1:-1].astype(int), 100, atol=10)
  assert out.mean() == pytest.approx(100, abs=2)


def test_a_large_jpeg_is_decoded_as_the_small_picture_it_becomes():
  # A smooth picture, so that the decoder's own scaling cannot differ much.
  ramp = np.linspace(20, 230, 640)
  pixels = np.stack(
    [
      np.tile(ramp, (480, 1)),
      np.tile(ramp[::-1], (480, 1)),
      np.full((480, 640), 90),
    ],
    axis=-1,
  )
  image = Image.fromarray(pixels.astype(np.uint8))
  out = image_decoding.decode_and_resize(
    encode(image, format='JPEG', quality=95), height=48, width=64
  )
  expected = np.asarray(image.resize((64, 48), Image.Resampling.BOX))
  np.testing.assert_allclose(out.astype(int), expected.astype(int), atol=4)


@pytest.mark.parametrize('size', [(300, 450), (450, 300), (130, 977), (40, 9)])
def test_scales_as_pillow_does_but_for_rounding(size):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (*reversed(size), 3), np.uint8)
  image = Image.fromarray(pixels)
  out = image_decoding.decode_and_resize(encode(image), height=64, width=48)
  expected = image.resize((48, 64), Image.Resampling.BILINEAR, reducing_gap=2.0)
  np.testing.assert_allclose(
    out.astype(int), np.asarray(expected).astype(int), rtol=0, atol=2
  )


def test_height_and_width_are_not_mixed_up():
  content = encode(Image.new('RGB', (10, 20)))
  assert image_decoding.decode_and_resize(content, height=9, width=3).shape == (
    9,
    3,
    3,
  )


def test_bytes_that_are_no_image_raise():
  with pytest.raises(images.BadImageError, match='not an image'):
    image_decoding.decode_and_resize(b'<html></html>', height=4, width=4)
