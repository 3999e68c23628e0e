"""Maps of where a network looked, as pictures."""

import io

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.reports import contact_sheet

# Perceptually uniform, and the same in print and for the colour-blind.
_COLORS = 'inferno'
# Of the map's colours where it is highest.
_OPACITY = 0.75
# Of the poster's own colours, so that those of the map stand out.
_SATURATION = 0.4
_GAP, _LINE = 14, 20


def enlarge(map_: np.ndarray, *, height: int, width: int) -> np.ndarray:
  """Scales a map [h, w] to float32 [height, width], in [0, 1], smoothly."""
  scaled = Image.fromarray(np.asarray(map_, np.float32)).resize(
    (width, height), Image.Resampling.BICUBIC
  )
  return np.clip(np.asarray(scaled), 0, 1)


def overlay(image: np.ndarray, map_: np.ndarray) -> np.ndarray:
  """Lays a map over its poster: bright where it is high, faded elsewhere.

  Args:
    image: uint8 [H, W, 3].
    map_: [h, w], in [0, 1].

  Returns:
    uint8 [H, W, 3].
  """
  import matplotlib  # Here, since naming genres needs none of it.

  height, width = image.shape[:2]
  share = enlarge(map_, height=height, width=width)[..., None]
  colors = matplotlib.colormaps[_COLORS](share[..., 0])[..., :3] * 255
  gray = np.asarray(Image.fromarray(image).convert('L'), float)[..., None]
  faded = _SATURATION * image + (1 - _SATURATION) * gray
  opacity = _OPACITY * share
  return np.uint8(np.rint((1 - opacity) * faded + opacity * colors))


def draw_panel(
  entry: contact_sheet.Entry, chosen: np.ndarray, maps: np.ndarray, *, genres
) -> bytes:
  """Draws a poster, and beside it where the network looked for some genres.

  Args:
    entry: the poster, its name and scores.
    chosen: int [K], the genres.
    maps: [K, h, w], of `explain.Explainer.maps`.
    genres: the label names.

  Returns:
    A PNG file's bytes.
  """
  height, width = contact_sheet.IMAGE_SHAPE
  pictures = [entry.image, *(overlay(entry.image, map_) for map_ in maps)]
  captions = [
    entry.name,
    *(f'{genres[i]} {entry.scores[i]:.2f}' for i in chosen),
  ]
  panel = Image.new(
    'RGB',
    (_GAP + len(pictures) * (width + _GAP), height + 2 * _GAP + _LINE),
    contact_sheet.BACKGROUND,
  )
  pen, font = ImageDraw.Draw(panel), ImageFont.load_default(14)
  for number, (picture, caption) in enumerate(
    zip(pictures, captions, strict=True)
  ):
    left = _GAP + number * (width + _GAP)
    panel.paste(
      Image.fromarray(picture).resize(
        (width, height), Image.Resampling.LANCZOS
      ),
      (left, _GAP),
    )
    pen.text(
      (left, _GAP + height + 4),
      contact_sheet.fit(pen, caption, font),
      contact_sheet.INK,
      font,
    )
  encoded = io.BytesIO()
  panel.save(encoded, 'PNG')
  return encoded.getvalue()
