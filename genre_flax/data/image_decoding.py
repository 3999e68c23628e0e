"""From an image file's bytes to pixels, the same in training and serving."""

import math

import numpy as np
from PIL import Image

from genre_flax.datasets.posters import images

# Counts up where the pixels of a poster change.
RESIZE_VERSION = 2


def decode_and_resize(content: bytes, *, height: int, width: int) -> np.ndarray:
  """Decodes an image and scales it to the network's input size.

  The whole poster is kept: where its proportions differ from height : width, it
  is stretched.

  Args:
    content: the file's bytes, in any format that `images.open_rgb` reads.
    height: in pixels.
    width: in pixels.

  Returns:
    uint8 [height, width, 3], RGB.

  Raises:
    BadImageError: the bytes do not decode.
  """
  image, _ = images.open_rgb(content, at_least=(width, height))
  return np.asarray(_resize(image, width, height), np.uint8)


def _resize(image, width, height):
  # One side after the other, such that fewer pixels are between them. Asked for
  # both, Pillow's own order is slower for most, and versions differ in it.
  between = min((image.width, height), (width, image.height), key=math.prod)
  for size in (between, (width, height)):
    if image.size != size:
      # The box filter of `reducing_gap` is anti-aliased, as is BILINEAR itself,
      # which in Pillow widens with the scale.
      image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
  return image
