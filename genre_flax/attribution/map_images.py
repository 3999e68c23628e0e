"""Attribution maps as images: overlays, and one file per poster."""

from collections.abc import Sequence
import dataclasses
import re

from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.attribution import methods
from genre_flax.attribution import words
from genre_flax.data import drawing
from genre_flax.datasets.posters import poster_text
from genre_flax.evaluation import metrics
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import files

FOLDER = 'maps'
# Perceptually uniform, and readable in gray and by color-blind people.
_COLORMAP = 'inferno'
# Of the colormap where the map is 1.
_OPACITY = 0.75
# Of the poster below the map, so that the colormap stands out.
_SATURATION = 0.4
_GAP, _LINE = 14, 20


@dataclasses.dataclass(frozen=True)
class Poster:
  """A poster to draw.

  Attributes:
    name: the caption; the name of a file of maps is derived from it.
    image: uint8 [H, W, 3] of any size, to show.
    pixels: uint8 [H, W, 3] of the network's input size; None without maps.
    scores: [num_genres]; None without predictions.
    labels: [num_genres] in [0, 1], or None where they are unknown.
    lines: the text on the poster, of a network that takes text.
  """

  name: str
  image: np.ndarray
  pixels: np.ndarray | None
  scores: np.ndarray | None
  labels: np.ndarray | None = None
  lines: tuple[poster_text.Line, ...] = ()


def resize(map_: np.ndarray, *, height: int, width: int) -> np.ndarray:
  """Resizes a map [h, w] smoothly to float32 [height, width] in [0, 1]."""
  resized = Image.fromarray(np.asarray(map_, np.float32)).resize(
    (width, height), Image.Resampling.BICUBIC
  )
  return np.clip(np.asarray(resized), 0, 1)


def overlay(image: np.ndarray, map_: np.ndarray) -> np.ndarray:
  """Blends a map with its poster: bright where the map is high, else faded.

  Args:
    image: uint8 [H, W, 3].
    map_: [h, w] in [0, 1].

  Returns:
    uint8 [H, W, 3].
  """
  import matplotlib  # Here, since predictions do without it.

  height, width = image.shape[:2]
  share = resize(map_, height=height, width=width)[..., None]
  colors = matplotlib.colormaps[_COLORMAP](share[..., 0])[..., :3] * 255
  gray = np.asarray(Image.fromarray(image).convert('L'), float)[..., None]
  faded = _SATURATION * image + (1 - _SATURATION) * gray
  opacity = _OPACITY * share
  return np.uint8(np.rint((1 - opacity) * faded + opacity * colors))


class MapWriter:
  """Writes an image per poster: maps of its top-3 predictions, side by side."""

  def __init__(
    self,
    predictor: predictor_lib.Predictor,
    folder: epath.Path,
    *,
    method: str | None,
  ):
    """Prepares the method and creates the folder.

    Raises:
      InputError: the network does not support the method.
      StorageError: the folder cannot be created.
    """
    self._explainer = methods.Explainer(predictor, method=method)
    self._genres = predictor.genres
    self._words = None
    if predictor.text is not None:
      self._words = words.WordExplainer(predictor)
    self.folder = folder
    with files.storage_errors(folder):
      folder.mkdir(parents=True, exist_ok=True)

  def write(self, posters: Sequence[Poster], *, first: int = 0) -> None:
    """Writes the maps of some posters.

    Args:
      posters: to draw.
      first: number of the first one; file names begin with the number.

    Raises:
      StorageError: a file cannot be written.
    """
    if not posters:
      return
    chosen = metrics.top_k(np.stack([poster.scores for poster in posters]))
    pixels = np.stack([poster.pixels for poster in posters])
    maps = self._explainer.maps(pixels, chosen)
    for number, poster in enumerate(posters):
      stem = re.sub(r'[^A-Za-z0-9._-]+', '_', epath.Path(poster.name).stem)
      files.write_atomic(
        self.folder / f'{first + number:05d}_{stem[:60]}.png',
        self._draw(poster, chosen[number], maps[number]),
      )

  def _draw(self, poster, chosen, maps) -> bytes:
    height, width = drawing.POSTER_SHAPE
    images = [poster.image, *(overlay(poster.image, map_) for map_ in maps)]
    captions = [
      poster.name,
      *(f'{self._genres[i]} {poster.scores[i]:.2f}' for i in chosen),
    ]
    notes = [(), *(self._describe_words(poster, genre) for genre in chosen)]
    num_lines = 3 if self._words else 1
    panel = Image.new(
      'RGB',
      (
        _GAP + len(images) * (width + _GAP),
        height + 2 * _GAP + num_lines * _LINE,
      ),
      drawing.BACKGROUND,
    )
    pen, font = ImageDraw.Draw(panel), ImageFont.load_default(14)
    for column, (image, caption, note) in enumerate(
      zip(images, captions, notes, strict=True)
    ):
      left = _GAP + column * (width + _GAP)
      resized = Image.fromarray(image).resize(
        (width, height), Image.Resampling.LANCZOS
      )
      panel.paste(resized, (left, _GAP))
      for line, text in enumerate((caption, *note)):
        top = _GAP + height + 4 + line * _LINE
        text = drawing.shorten(pen, text, font)
        pen.text((left, top), text, drawing.INK, font)
    return drawing.to_png(panel)

  def _describe_words(self, poster, genre) -> list[str]:
    """Lines of the words for and against a genre: '+ murder', '- love'."""
    if self._words is None:
      return []
    parts = zip('+-', self._words.strongest(poster.lines, genre), strict=True)
    return [
      f'{sign} {", ".join(word for word, _ in found)}'
      for sign, found in parts
      if found
    ]
