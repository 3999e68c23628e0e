"""A picture of posters with what was predicted of them."""

from collections.abc import Sequence
import dataclasses
import io

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.evaluation import metrics
from genre_flax.runtime import text as text_lib

FILE_NAME = 'contact_sheet.png'
# Posters are shown so, in pixels, whatever the network's input is.
IMAGE_SHAPE = _POSTER_HEIGHT, _POSTER_WIDTH = 264, 180
_GAP, _LINE = 14, 19
BACKGROUND = (250, 249, 246)
INK, _FAINT = (35, 35, 40), (120, 120, 126)
_RIGHT, _WRONG = (20, 125, 70), (190, 60, 45)
_BAR = (222, 219, 210)


@dataclasses.dataclass(frozen=True)
class Entry:
  """One poster of the sheet.

  Attributes:
    image: uint8 [H, W, 3].
    scores: [num_genres].
    labels: [num_genres] of 0 and 1, or None where the truth is not known.
    name: written above the truth.
  """

  image: np.ndarray
  scores: np.ndarray
  labels: np.ndarray | None
  name: str


def draw(
  entries: Sequence[Entry], *, genres: Sequence[str], columns: int = 6
) -> bytes:
  """Draws posters in a grid, each with its genres and the top three.

  A named genre is green where it is right, red where it is wrong, and black
  where the truth is not known. The bar behind it is as long as its score.

  Args:
    entries: at least one.
    genres: the label names.
    columns: posters a row.

  Returns:
    A PNG file's bytes.
  """
  columns = min(columns, len(entries))
  rows = -(-len(entries) // columns)
  cell_width = _POSTER_WIDTH + _GAP
  cell_height = _POSTER_HEIGHT + 5 * _LINE + 2 * _GAP
  sheet = Image.new(
    'RGB',
    (columns * cell_width + _GAP, rows * cell_height + _GAP),
    BACKGROUND,
  )
  for number, entry in enumerate(entries):
    row, column = divmod(number, columns)
    corner = (_GAP + column * cell_width, _GAP + row * cell_height)
    _draw_entry(sheet, entry, corner, genres)
  encoded = io.BytesIO()
  sheet.save(encoded, 'PNG', optimize=True)
  return encoded.getvalue()


def _draw_entry(sheet, entry, corner, genres):
  left, top = corner
  poster = Image.fromarray(entry.image).resize(
    (_POSTER_WIDTH, _POSTER_HEIGHT), Image.Resampling.LANCZOS
  )
  sheet.paste(poster, corner)
  pen = ImageDraw.Draw(sheet)
  small, normal = ImageFont.load_default(12), ImageFont.load_default(14)
  y = top + _POSTER_HEIGHT + 6
  pen.text((left, y), fit(pen, entry.name, small), _FAINT, small)
  if entry.labels is not None:
    truth = ', '.join(genres[i] for i in np.flatnonzero(entry.labels))
    pen.text((left, y + _LINE), fit(pen, truth, small), INK, small)
  for place, genre in enumerate(metrics.top_k(entry.scores[None])[0]):
    line_y = y + (2 + place) * _LINE
    score = float(entry.scores[genre])
    pen.rectangle(
      (left, line_y, left + score * _POSTER_WIDTH, line_y + _LINE - 3), _BAR
    )
    color = INK
    if entry.labels is not None:
      color = _RIGHT if entry.labels[genre] else _WRONG
    pen.text((left + 4, line_y), fit(pen, genres[genre], normal), color, normal)
    pen.text(
      (left + _POSTER_WIDTH - 2, line_y), f'{score:.2f}', color, normal, 'ra'
    )


def fit(
  pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont
) -> str:
  """Shortens a text to the width of a poster."""
  text = text_lib.printable(text)
  if pen.textlength(text, font) <= _POSTER_WIDTH:
    return text
  while text and pen.textlength(text + '...', font) > _POSTER_WIDTH:
    text = text[:-1]
  return text + '...'
