"""Scores, attribution maps and nearest posters of image files."""

from collections.abc import Sequence

from etils import epath
import numpy as np
from PIL import Image

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.datasets.posters import images
from genre_flax.inference import image_files
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
    """Compiles all programs, so that the first request is fast."""
    predictor.require_images_only('The demo')
    self.predictor = predictor
    self._embedder = embedder
    self._index = index
    self.explainer = methods.Explainer(predictor)
    self._max_bytes = max_bytes
    blank = np.zeros((*predictor.image_shape, 3), np.uint8)
    for size in (1, _BATCH_SIZE):
      self._predict([blank] * size)
    self.explainer.maps(blank[None], np.array([[0]]))
    if embedder is not None:
      embedder.embed(blank[None])

  def predict(
    self, paths: Sequence[epath.Path]
  ) -> list[np.ndarray | images.BadImageError]:
    """Scores image files; an unreadable one does not affect the others.

    Returns:
      Per file, calibrated probabilities, float64 [num_genres], or the error.
    """
    return [
      each if isinstance(each, images.BadImageError) else each[1]
      for batch in image_files.batched(paths, _BATCH_SIZE)
      for each in self._predict([self._decode(path) for path in batch])
    ]

  def attribution_map(self, path: epath.Path, genre: int) -> np.ndarray:
    """The poster with the attribution map of a genre laid over it.

    Returns:
      uint8 [h, w, 3], in the proportions of the poster.

    Raises:
      BadImageError: the file cannot be read.
    """
    content = images.read(path, max_bytes=self._max_bytes)
    image, _ = images.open_rgb(content, at_least=(_MAX_SIDE, _MAX_SIDE))
    image.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
    pixels = self._decode(content)
    maps = self.explainer.maps(pixels[None], np.array([[genre]]))
    return map_images.overlay(np.asarray(image, np.uint8), maps[0, 0])

  def nearest(self, path: epath.Path) -> list[neighbors.Neighbor]:
    """The most similar training posters, by cosine similarity of embeddings.

    Returns:
      NUM_NEIGHBORS at most, the most similar first; [] without an index.

    Raises:
      BadImageError: the file cannot be read.
    """
    if self._embedder is None or self._index is None:
      return []
    pixels = self._decode(path)
    if isinstance(pixels, images.BadImageError):
      raise pixels
    [embedding] = self._embedder.embed(pixels[None])
    return self._index.nearest(embedding, number=NUM_NEIGHBORS)

  def _decode(self, image) -> np.ndarray | images.BadImageError:
    """An image of the input size, or the error."""
    return image_files.decode(
      image, self.predictor.image_shape, max_bytes=self._max_bytes
    )

  def _predict(self, decoded):
    """Results of 1 to _BATCH_SIZE images, by one of two compiled programs."""
    batch_size = 1 if len(decoded) == 1 else _BATCH_SIZE
    return image_files.predict_batch(
      self.predictor,
      decoded,
      batch_size=self.predictor.fit_batch_size(batch_size),
    )
