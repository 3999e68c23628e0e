"""Helpers to draw posters: sizes, colors, captions and encodings."""

import io

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.runtime import text as text_lib

# (height, width) in pixels of displayed posters.
POSTER_SHAPE = 264, 180
BACKGROUND = (250, 249, 246)
INK, FAINT = (35, 35, 40), (120, 120, 126)
_JPEG_QUALITY = 80


def shorten(
  pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont
) -> str:
  """Shortens a text to the width of a poster; escapes invisible characters."""
  text = text_lib.printable(text)
  width = POSTER_SHAPE[1]
  if pen.textlength(text, font) <= width:
    return text
  while text and pen.textlength(text + '...', font) > width:
    text = text[:-1]
  return text + '...'


def to_jpeg(pixels: np.ndarray) -> bytes:
  """Encodes uint8 [H, W, 3] as a small JPEG file."""
  encoded = io.BytesIO()
  Image.fromarray(pixels).save(
    encoded, 'JPEG', quality=_JPEG_QUALITY, optimize=True
  )
  return encoded.getvalue()


def to_png(image: Image.Image) -> bytes:
  """Encodes an image as a PNG file."""
  encoded = io.BytesIO()
  image.save(encoded, 'PNG')
  return encoded.getvalue()
