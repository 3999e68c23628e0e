import io

import numpy as np
from PIL import Image
import pytest

from genre_flax.data import image_decoding


def decode(image, height, width, **options):
  file = io.BytesIO()
  image.save(file, **{'format': 'PNG', **options})
  return image_decoding.decode_and_resize(
    file.getvalue(), height=height, width=width
  )


def random_image(width, height):
  pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3))
  return Image.fromarray(pixels.astype(np.uint8))


def test_an_image_of_the_right_size_is_unchanged():
  image = random_image(width=5, height=7)
  np.testing.assert_array_equal(decode(image, 7, 5), np.asarray(image))


def test_the_reduced_decoding_of_a_large_jpeg():
  # On a smooth image, the decoder's scaling is close to a box filter.
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
  out = decode(image, 48, 64, format='JPEG', quality=95)
  expected = np.asarray(image.resize((64, 48), Image.Resampling.BOX))
  np.testing.assert_allclose(out.astype(int), expected.astype(int), atol=4)


@pytest.mark.parametrize('size', [(300, 450), (450, 300), (130, 977), (40, 9)])
def test_resizing_equals_pillow_up_to_rounding(size):
  image = random_image(*size)
  out = decode(image, 64, 48)
  assert out.shape == (64, 48, 3)
  expected = image.resize((48, 64), Image.Resampling.BILINEAR, reducing_gap=2.0)
  np.testing.assert_allclose(
    out.astype(int), np.asarray(expected).astype(int), rtol=0, atol=2
  )
