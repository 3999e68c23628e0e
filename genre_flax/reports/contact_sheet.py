"""Contact sheets: images of posters with their genres and predictions."""

from collections.abc import Sequence

from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.attribution import map_images
from genre_flax.data import drawing
from genre_flax.evaluation import metrics
from genre_flax.runtime import files

FILE_NAME = 'contact_sheet.png'
_POSTER_HEIGHT, _POSTER_WIDTH = drawing.POSTER_SHAPE
_GAP, _LINE = 14, 19
_NUM_COLUMNS = 6
_CORRECT, _WRONG = (20, 125, 70), (190, 60, 45)
_BAR = (222, 219, 210)


def write(
  folder: epath.Path,
  posters: Sequence[map_images.Poster],
  *,
  genres: Sequence[str],
  file_name: str = FILE_NAME,
) -> epath.Path:
  """Draws posters in a grid, each with its genres and top-3 predictions.

  A prediction is green if it is correct, red if it is wrong, and black if the
  labels are unknown. The length of the bar behind it is the score.
  """
  columns = min(_NUM_COLUMNS, len(posters))
  rows = -(-len(posters) // columns)
  cell_width = _POSTER_WIDTH + _GAP
  cell_height = _POSTER_HEIGHT + 5 * _LINE + 2 * _GAP
  sheet = Image.new(
    'RGB',
    (columns * cell_width + _GAP, rows * cell_height + _GAP),
    drawing.BACKGROUND,
  )
  for number, poster in enumerate(posters):
    row, column = divmod(number, columns)
    corner = (_GAP + column * cell_width, _GAP + row * cell_height)
    _draw_poster(sheet, poster, corner, genres)
  path = folder / file_name
  files.write_atomic(path, drawing.to_png(sheet))
  return path


def _draw_poster(sheet, poster, corner, genres):
  left, top = corner
  # Inputs of a network, which have no scores, are enlarged without smoothing.
  image = Image.fromarray(poster.image).resize(
    (_POSTER_WIDTH, _POSTER_HEIGHT),
    Image.Resampling.BOX if poster.scores is None else Image.Resampling.LANCZOS,
  )
  sheet.paste(image, corner)
  pen = ImageDraw.Draw(sheet)
  small, normal = ImageFont.load_default(12), ImageFont.load_default(14)
  y = top + _POSTER_HEIGHT + 6

  def write(line, text, font, color, indent=0):
    text = drawing.shorten(pen, text, font)
    pen.text((left + indent, y + line * _LINE), text, color, font)

  write(0, poster.name, small, drawing.FAINT)
  if poster.labels is not None:
    labels = _describe(poster.labels, genres)
    lines = [', '.join(labels)]
    if poster.scores is None:  # Their lines are free.
      lines = [*labels[:3], ', '.join(labels[3:])]
    for line, label in enumerate(lines, 1):
      write(line, label, small, drawing.INK)
  if poster.scores is None:
    return
  for line, genre in enumerate(metrics.top_k(poster.scores[None])[0], 2):
    score, line_y = float(poster.scores[genre]), y + line * _LINE
    pen.rectangle(
      (left, line_y, left + score * _POSTER_WIDTH, line_y + _LINE - 3), _BAR
    )
    color = drawing.INK
    if poster.labels is not None:
      color = _CORRECT if poster.labels[genre] else _WRONG
    write(line, genres[genre], normal, color, indent=4)
    pen.text(
      (left + _POSTER_WIDTH - 2, line_y), f'{score:.2f}', color, normal, 'ra'
    )


def _describe(labels, genres):
  """The positive labels, with their shares below 1, as of mixup."""
  return [
    genres[i] if labels[i] == 1 else f'{genres[i]} {labels[i]:.2f}'
    for i in np.flatnonzero(labels)
  ]
