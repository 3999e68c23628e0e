"""What the page answers, within limits; it knows of no browser."""

from collections.abc import Sequence
import dataclasses
import threading
import time

from absl import logging
from etils import epath
import numpy as np
from PIL import Image

from genre_flax.attribution import map_images
from genre_flax.attribution import methods
from genre_flax.data import drawing
from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images
from genre_flax.evaluation import metrics
from genre_flax.inference import predictor as predictor_lib
from genre_flax.retrieval import embedder as embedder_lib
from genre_flax.retrieval import neighbors
from genre_flax.runtime import errors

# Posters that are scored at once where there are several.
_AT_A_TIME = 8
# Longest side of a poster as it is shown, in pixels.
_SHOWN_SIDE = 800
_THUMBNAIL_SHAPE = 108, 72
NUM_SIMILAR = 6


@dataclasses.dataclass(frozen=True)
class Limits:
  """What a request may ask for.

  Attributes:
    max_bytes: of a file.
    max_files: of a request.
    max_seconds: that a request may take, without its time in the queue.
  """

  max_bytes: int
  max_files: int
  max_seconds: float


@dataclasses.dataclass(frozen=True)
class Upload:
  """A file that was given.

  Attributes:
    name: as the sender calls it; it may hold anything.
    path: where it is; None where it is not.
    problem: why it is not, in words.
  """

  name: str
  path: epath.Path | None
  problem: str = ''


# By identity: arrays are not to be compared.
@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
  """What was found of a poster.

  Attributes:
    upload: the poster.
    scores: float64 [num_genres], probabilities; None where it is unreadable.
    thumbnail: a small JPEG file's bytes, of what the network saw.
    error: why it is unreadable, in words; '' where it is not.
  """

  upload: Upload
  scores: np.ndarray | None = None
  thumbnail: bytes = b''
  error: str = ''

  @property
  def order(self) -> list[int]:
    """The genres, the likeliest first."""
    return np.argsort(-self.scores, kind='stable').tolist()


@dataclasses.dataclass(frozen=True, eq=False)
class Poster:
  """A poster that was decoded.

  Attributes:
    pixels: uint8 [H, W, 3], as the network takes it.
    picture: uint8 [h, w, 3], to be shown, in its own proportions.
  """

  pixels: np.ndarray
  picture: np.ndarray


class Service:
  """Answers from several threads; the network works for one at a time."""

  def __init__(
    self,
    predictor: predictor_lib.Predictor,
    *,
    embedder: embedder_lib.Embedder | None,
    index: neighbors.Index | None,
    limits: Limits,
  ):
    """Prepares the network, and compiles what will be asked of it.

    Args:
      predictor: of `predictor_lib.restore`.
      embedder: of the network; None where it cannot compare posters.
      index: the posters to compare with, or None.
      limits: of a request.
    """
    self.predictor = predictor
    self.limits = limits
    self.index = index
    self._embedder = embedder
    self._explainer = methods.Explainer(predictor)
    self._lock = threading.Lock()
    self._warm_up()

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names."""
    return self.predictor.genres

  @property
  def map_method(self) -> str:
    """How the maps are made, of `methods.METHODS`."""
    return self._explainer.method

  def _warm_up(self) -> None:
    start = time.monotonic()
    blank = np.zeros((*self.predictor.image_shape, 3), np.uint8)
    for number in {1, _AT_A_TIME}:
      self._score([blank] * number)
    poster = Poster(blank, blank)
    self.look(poster, 0)
    self.similar_to(poster)
    logging.info('The network is ready after %.1f s.', time.monotonic() - start)

  def name_genres(self, uploads: Sequence[Upload]) -> list[Answer]:
    """Scores posters; one that cannot be read does not spoil the others.

    Args:
      uploads: the files.

    Returns:
      An answer for each, in order.

    Raises:
      InputError: there are none, or too many.
    """
    limits = self.limits
    if not uploads:
      raise errors.InputError('No poster was given.')
    if len(uploads) > limits.max_files:
      raise errors.InputError(
        f'{len(uploads)} posters were given; at most {limits.max_files} are'
        ' looked at together. Give them in several parts.'
      )
    deadline = time.monotonic() + limits.max_seconds
    answers = []
    for start in range(0, len(uploads), _AT_A_TIME):
      group = uploads[start : start + _AT_A_TIME]
      if time.monotonic() > deadline:
        answers += [Answer(upload, error=self._too_late()) for upload in group]
      else:
        answers += self._name_group(group, deadline)
    return answers

  def _name_group(self, uploads, deadline) -> list[Answer]:
    found = [self._decode(upload, deadline) for upload in uploads]
    pixels = [one for one in found if isinstance(one, np.ndarray)]
    scores = iter(self._score(pixels) if pixels else ())
    return [
      Answer(upload, scores=next(scores), thumbnail=_thumbnail(one))
      if isinstance(one, np.ndarray)
      else Answer(upload, error=one)
      for upload, one in zip(uploads, found, strict=True)
    ]

  def _decode(self, upload, deadline) -> np.ndarray | str:
    """The pixels, or what is wrong with the file."""
    if time.monotonic() > deadline:
      return self._too_late()
    height, width = self.predictor.image_shape
    try:
      return image_decoding.decode_and_resize(
        self._read(upload), height=height, width=width
      )
    except images.BadImageError as e:
      return str(e)

  def _read(self, upload: Upload) -> bytes:
    if upload.path is None:
      raise images.BadImageError(images.MISSING, upload.problem)
    return images.read(upload.path, max_bytes=self.limits.max_bytes)

  def _too_late(self) -> str:
    return (
      'not looked at: the request took more than'
      f' {self.limits.max_seconds:g} s; give it again, with fewer posters'
    )

  def _score(self, pixels) -> np.ndarray:
    number = 1 if len(pixels) == 1 else _AT_A_TIME
    with self._lock:
      return self.predictor.predict(
        np.stack(pixels), batch_size=self.predictor.fit_batch_size(number)
      )

  def open(self, upload: Upload) -> Poster:
    """Decodes a poster, to show it and to look where the network looked.

    Raises:
      BadImageError: it is not there any more, or cannot be read.
    """
    content = self._read(upload)
    height, width = self.predictor.image_shape
    image, _ = images.open_rgb(content, at_least=(_SHOWN_SIDE, _SHOWN_SIDE))
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    return Poster(
      image_decoding.decode_and_resize(content, height=height, width=width),
      np.asarray(image, np.uint8),
    )

  def look(self, poster: Poster, genre: int) -> np.ndarray:
    """The poster with what spoke for a genre laid over it.

    Args:
      poster: of `open`.
      genre: its index.

    Returns:
      uint8 [h, w, 3], of the size of the picture.
    """
    with self._lock:
      maps = self._explainer.maps(poster.pixels[None], np.array([[genre]]))
    return map_images.overlay(poster.picture, maps[0, 0])

  def similar_to(self, poster: Poster) -> list[neighbors.Neighbor]:
    """Posters of the training split, the most similar first, if any."""
    if self._embedder is None or self.index is None:
      return []
    with self._lock:
      [features] = self._embedder.embed(poster.pixels[None])
    return self.index.nearest(features, number=NUM_SIMILAR)


def _thumbnail(pixels) -> bytes:
  height, width = _THUMBNAIL_SHAPE
  image = Image.fromarray(pixels).resize(
    (width, height), Image.Resampling.LANCZOS
  )
  return drawing.to_jpeg(np.asarray(image))


def top_three(answer: Answer) -> list[int]:
  """The three likeliest genres of a poster."""
  return metrics.top_k(answer.scores[None])[0].tolist()
