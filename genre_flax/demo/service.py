"""Scores, attribution maps and nearest posters of image files."""

from collections.abc import Sequence
import os

from etils import epath
import numpy as np
from PIL import Image

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.attribution import words as words_lib
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
    self._words = None
    if predictor.text is not None:
      self._words = words_lib.WordExplainer(predictor)
    self._max_bytes = max_bytes
    blank = np.zeros((*predictor.image_shape, 3), np.uint8)
    for size in (1, _BATCH_SIZE):
      self._score([image_files.Result(None, blank, None, None)] * size)
    self.explainer.maps(blank[None], np.array([[0]]))
    if embedder is not None:
      embedder.embed(blank[None])

  def predict(self, paths: Sequence[epath.Path]) -> list[image_files.Result]:
    """Scores image files; an unreadable one does not affect the others."""
    return [
      each
      for batch in image_files.batched(paths, _BATCH_SIZE)
      for each in self._score([self._read(path) for path in batch])
    ]

  def words(
    self, path: epath.Path, genre: int
  ) -> list[tuple[str, float]] | None:
    """The words on a poster with their contributions to the score of a genre.

    Returns:
      Words in the order of the text, and numbers from -1 to 1: shares of the
      largest contribution. None for a network that takes no text.
    """
    if self._words is None:
      return None
    words, values = self._words.contributions(self._read(path).lines or ())
    values = values[:, genre] / max(np.abs(values[:, genre]), default=1.0)
    return list(zip(words, values.tolist(), strict=True))

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
    pixels = image_files.decode(content, self.predictor.image_shape)
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
    pixels = image_files.decode(
      path, self.predictor.image_shape, max_bytes=self._max_bytes
    )
    if isinstance(pixels, images.BadImageError):
      raise pixels
    [embedding] = self._embedder.embed(pixels[None])
    return self._index.nearest(embedding, number=NUM_NEIGHBORS)

  def _read(self, path) -> image_files.Result:
    return image_files.read(
      self.predictor,
      path,
      max_bytes=self._max_bytes,
      num_threads=os.cpu_count() or 1,
    )

  def _score(self, results):
    """Scores 1 to _BATCH_SIZE images, by one of two compiled programs."""
    batch_size = 1 if len(results) == 1 else _BATCH_SIZE
    return image_files.score(
      self.predictor,
      results,
      batch_size=self.predictor.fit_batch_size(batch_size),
    )
