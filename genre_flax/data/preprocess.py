"""From an image file's bytes to pixels, the same in training and serving."""

import numpy as np
from PIL import Image

from genre_flax.datasets.posters import images


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
  if image.size != (width, height):
    # The box filter of `reducing_gap` is anti-aliased, as is BILINEAR itself,
    # which in Pillow widens with the scale.
    image = image.resize(
      (width, height), Image.Resampling.BILINEAR, reducing_gap=2.0
    )
  return np.asarray(image, np.uint8)
