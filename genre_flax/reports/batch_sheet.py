"""A training batch as a picture: images with their films and labels."""

from collections.abc import Sequence

from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.data import drawing
from genre_flax.runtime import files

_NUM_COLUMNS = 8
_GAP, _LINE = 14, 17


def write(
  path: epath.PathLike,
  images: np.ndarray,
  *,
  labels: np.ndarray,
  ids: Sequence[str],
  genres: Sequence[str],
) -> None:
  """Draws images in a grid, each with its film and its labels.

  Small images are enlarged by a whole factor, without smoothing.

  Args:
    path: of the PNG file.
    images: uint8 [N, H, W, 3].
    labels: [N, num_genres] in [0, 1]; shares below 1, as of mixup, are shown.
    ids: of the films, [N].
    genres: the label names.

  Raises:
    StorageError: the file cannot be written.
  """
  num_images, height, width, _ = images.shape
  factor = -(-drawing.POSTER_SHAPE[1] // width)
  cell = factor * width + _GAP, factor * height + 2 * _LINE + _GAP
  columns = min(_NUM_COLUMNS, num_images)
  rows = -(-num_images // columns)
  sheet = Image.new(
    'RGB',
    (columns * cell[0] + _GAP, rows * cell[1] + _GAP),
    drawing.BACKGROUND,
  )
  pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
  for number, pixels in enumerate(images.repeat(factor, 1).repeat(factor, 2)):
    row, column = divmod(number, columns)
    left, top = _GAP + column * cell[0], _GAP + row * cell[1]
    sheet.paste(Image.fromarray(pixels), (left, top))
    captions = (
      (ids[number], drawing.FAINT),
      (describe_labels(labels[number], genres), drawing.INK),
    )
    for line, (caption, color) in enumerate(captions):
      y = top + len(pixels) + line * _LINE
      pen.text((left, y), drawing.shorten(pen, caption, font), color, font)
  files.write_atomic(path, drawing.to_png(sheet))


def describe_labels(labels: np.ndarray, genres: Sequence[str]) -> str:
  """The positive labels [num_genres], such as 'Drama, War 0.25'."""
  return ', '.join(
    genres[i] if labels[i] == 1 else f'{genres[i]} {labels[i]:.2f}'
    for i in np.flatnonzero(labels)
  )
