"""Contact sheets: images of posters with their genres and predictions."""

from collections.abc import Sequence
import dataclasses

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.data import drawing
from genre_flax.evaluation import metrics

FILE_NAME = 'contact_sheet.png'
_POSTER_HEIGHT, _POSTER_WIDTH = drawing.POSTER_SHAPE
_GAP, _LINE = 14, 19
_CORRECT, _WRONG = (20, 125, 70), (190, 60, 45)
_BAR = (222, 219, 210)


@dataclasses.dataclass(frozen=True)
class Entry:
  """A poster of a contact sheet.

  Attributes:
    image: uint8 [H, W, 3].
    scores: [num_genres].
    labels: [num_genres] of 0 and 1, or None where they are unknown.
    name: the caption.
  """

  image: np.ndarray
  scores: np.ndarray
  labels: np.ndarray | None
  name: str


def draw(
  entries: Sequence[Entry], *, genres: Sequence[str], columns: int = 6
) -> bytes:
  """Draws posters in a grid, each with its genres and top-3 predictions.

  A prediction is green if it is correct, red if it is wrong, and black if the
  labels are unknown. The length of the bar behind it is the score.

  Args:
    entries: at least one.
    genres: the label names.
    columns: posters per row.

  Returns:
    A PNG file.
  """
  columns = min(columns, len(entries))
  rows = -(-len(entries) // columns)
  cell_width = _POSTER_WIDTH + _GAP
  cell_height = _POSTER_HEIGHT + 5 * _LINE + 2 * _GAP
  sheet = Image.new(
    'RGB',
    (columns * cell_width + _GAP, rows * cell_height + _GAP),
    drawing.BACKGROUND,
  )
  for number, entry in enumerate(entries):
    row, column = divmod(number, columns)
    corner = (_GAP + column * cell_width, _GAP + row * cell_height)
    _draw_entry(sheet, entry, corner, genres)
  return drawing.to_png(sheet)


def _draw_entry(sheet, entry, corner, genres):
  left, top = corner
  poster = Image.fromarray(entry.image).resize(
    (_POSTER_WIDTH, _POSTER_HEIGHT), Image.Resampling.LANCZOS
  )
  sheet.paste(poster, corner)
  pen = ImageDraw.Draw(sheet)
  small, normal = ImageFont.load_default(12), ImageFont.load_default(14)
  y = top + _POSTER_HEIGHT + 6

  def write(line, text, font, color, indent=0):
    text = drawing.shorten(pen, text, font)
    pen.text((left + indent, y + line * _LINE), text, color, font)

  write(0, entry.name, small, drawing.FAINT)
  if entry.labels is not None:
    labels = ', '.join(genres[i] for i in np.flatnonzero(entry.labels))
    write(1, labels, small, drawing.INK)
  for line, genre in enumerate(metrics.top_k(entry.scores[None])[0], 2):
    score, line_y = float(entry.scores[genre]), y + line * _LINE
    pen.rectangle(
      (left, line_y, left + score * _POSTER_WIDTH, line_y + _LINE - 3), _BAR
    )
    color = drawing.INK
    if entry.labels is not None:
      color = _CORRECT if entry.labels[genre] else _WRONG
    write(line, genres[genre], normal, color, indent=4)
    pen.text(
      (left + _POSTER_WIDTH - 2, line_y), f'{score:.2f}', color, normal, 'ra'
    )
