"""Pixels of an image file, the same in training and inference."""

import math

import numpy as np
from PIL import Image

from genre_flax.datasets.posters import images

# Incremented whenever the pixels of a poster change.
RESIZE_VERSION = 2


def decode_and_resize(content: bytes, *, height: int, width: int) -> np.ndarray:
  """Decodes an image and resizes it to the network's input size.

  The whole poster is kept. Its aspect ratio changes to width : height. The file
  is in any format that `images.open_rgb` reads.

  Returns:
    uint8 [height, width, 3], RGB.

  Raises:
    BadImageError: the bytes do not decode.
  """
  image, _ = images.open_rgb(content, at_least=(width, height))
  return np.asarray(_resize(image, width, height), np.uint8)


def _resize(image, width, height):
  # One side after the other, in the order with the smaller intermediate image.
  # Pillow's own order is slower for most posters and depends on its version.
  between = min((image.width, height), (width, image.height), key=math.prod)
  for size in (between, (width, height)):
    if image.size != size:
      # Both the box filter of `reducing_gap` and BILINEAR, whose support grows
      # with the scale in Pillow, are anti-aliased.
      image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
  return image
