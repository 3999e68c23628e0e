"""Scores, attribution maps and nearest posters of image files."""

from collections.abc import Sequence

from etils import epath
import numpy as np
from PIL import Image

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images
from genre_flax.inference import predictor as predictor_lib
from genre_flax.retrieval import embedder as embedder_lib
from genre_flax.retrieval import neighbors

NUM_NEIGHBORS = 6
_BATCH_SIZE = 8
# Longest side of a displayed poster, in pixels.
_MAX_SIDE = 800


class Service:
  """A network, its attribution method and its index of training posters."""

  def __init__(
    self,
    predictor: predictor_lib.Predictor,
    *,
    max_bytes: int,
    embedder: embedder_lib.Embedder | None = None,
    index: neighbors.Index | None = None,
  ):
    """Compiles all programs, so that the first request is fast.

    Args:
      predictor: of `predictor_lib.restore`.
      max_bytes: largest file that is read.
      embedder: of the same network; None disables nearest posters.
      index: posters to search; None disables nearest posters.
    """
    predictor.require_images_only('The demo')
    self.predictor = predictor
    self._embedder = embedder
    self._index = index
    self.explainer = methods.Explainer(predictor)
    self._max_bytes = max_bytes
    blank = np.zeros((*predictor.image_shape, 3), np.uint8)
    for size in (1, _BATCH_SIZE):
      self._score([blank] * size)
    self.explainer.maps(blank[None], np.array([[0]]))
    if embedder is not None:
      embedder.embed(blank[None])

  def predict(
    self, paths: Sequence[epath.Path]
  ) -> list[np.ndarray | images.BadImageError]:
    """Scores image files; an unreadable one does not affect the others.

    Args:
      paths: any number of files.

    Returns:
      Per file, calibrated probabilities, float64 [num_genres], or the error.
    """
    results = []
    for start in range(0, len(paths), _BATCH_SIZE):
      decoded = []
      for path in paths[start : start + _BATCH_SIZE]:
        try:
          decoded.append(self._decode(self._read(path)))
        except images.BadImageError as e:
          decoded.append(e)
      pixels = [each for each in decoded if isinstance(each, np.ndarray)]
      scores = iter(self._score(pixels) if pixels else ())
      results += [
        next(scores) if isinstance(each, np.ndarray) else each
        for each in decoded
      ]
    return results

  def attribution_map(self, path: epath.Path, genre: int) -> np.ndarray:
    """The poster with the attribution map of a genre laid over it.

    Args:
      path: of the poster.
      genre: index of the genre.

    Returns:
      uint8 [h, w, 3], in the proportions of the poster.

    Raises:
      BadImageError: the file cannot be read.
    """
    content = self._read(path)
    image, _ = images.open_rgb(content, at_least=(_MAX_SIDE, _MAX_SIDE))
    image.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
    pixels = self._decode(content)
    maps = self.explainer.maps(pixels[None], np.array([[genre]]))
    return map_images.overlay(np.asarray(image, np.uint8), maps[0, 0])

  def nearest(self, path: epath.Path) -> list[neighbors.Neighbor]:
    """The most similar training posters, by cosine similarity of embeddings.

    Args:
      path: of the poster.

    Returns:
      NUM_NEIGHBORS at most, the most similar first; [] without an index.

    Raises:
      BadImageError: the file cannot be read.
    """
    if self._embedder is None or self._index is None:
      return []
    pixels = self._decode(self._read(path))
    [embedding] = self._embedder.embed(pixels[None])
    return self._index.nearest(embedding, number=NUM_NEIGHBORS)

  def _read(self, path) -> bytes:
    return images.read(path, max_bytes=self._max_bytes)

  def _decode(self, content) -> np.ndarray:
    height, width = self.predictor.image_shape
    return image_decoding.decode_and_resize(content, height=height, width=width)

  def _score(self, pixels) -> np.ndarray:
    """Scores of 1 to _BATCH_SIZE images, by one of two compiled programs."""
    batch_size = 1 if len(pixels) == 1 else _BATCH_SIZE
    return self.predictor.predict(
      np.stack(pixels), batch_size=self.predictor.fit_batch_size(batch_size)
    )
