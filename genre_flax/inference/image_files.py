"""Image files: finding them in folders, and scoring them in batches."""

import collections
from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import functools
import hashlib
import io
import itertools
import os
import threading
from typing import TypeVar

from absl import logging
from etils import epath
import numpy as np
import PIL.Image

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import poster_text
from genre_flax.inference import ensemble
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import threads

_PNG_MODES = ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16')
_LOCK = threading.Lock()
_MAX_TEXTS = 256  # In memory.
_T = TypeVar('_T')
# A path, the bytes of a file, or pixels.
Image = str | os.PathLike | bytes | PIL.Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Result:
  """The scores of a file, or the reason why it is unreadable.

  Attributes:
    path: of the file, or the image itself.
    pixels: uint8 [H, W, 3] of the input size of the network, or of the first
      member of an ensemble; None if the file is unreadable.
    scores: float64 [num_genres], probabilities; None if it is unreadable.
    error: the reason, or None.
    lines: the text on the poster; None if it was not read.
  """

  path: Image
  pixels: np.ndarray | None
  scores: np.ndarray | None
  error: str | None
  lines: tuple[poster_text.Line, ...] | None = None


def find(paths: Sequence[str]) -> list[epath.Path]:
  """The given files, and the images in the given folders and below.

  Raises:
    InputError: a folder contains no image, or cannot be read.
  """
  files = []
  for path in map(epath.Path, paths):
    if not path.is_dir():
      files.append(path)
      continue
    found = images.find(path)
    if not found:
      raise errors.InputError(
        f'There is no image in {path}: expected {images.FORMATS} files.'
      )
    files += found
  return files


def predict_files(
  predictor: predictor_lib.Predictor | ensemble.Ensemble,
  files: Sequence[Image],
  *,
  batch_size: int,
) -> Iterator[Result]:
  """Scores files in batches; the result of an unreadable one has an error.

  Yields:
    A result per file, in order.
  """
  if not isinstance(predictor, ensemble.Ensemble):
    yield from _predict_by_one(predictor, files, batch_size)
    return
  by_member = [
    _predict_by_one(member, files, batch_size) for member in predictor.members
  ]
  for results in zip(*by_member, strict=True):
    unreadable = next((r for r in results if r.error is not None), None)
    scores = None
    if unreadable is None:
      scores = ensemble.mean_scores([r.scores for r in results])
    lines = next((r.lines for r in results if r.lines is not None), None)
    yield dataclasses.replace(
      unreadable or results[0], scores=scores, lines=lines
    )


def _predict_by_one(predictor, files, batch_size):
  # No larger than needed; powers of two, since each size is compiled.
  needed = 1 << max(0, len(files) - 1).bit_length()
  batch_size = predictor.fit_batch_size(min(batch_size, needed))
  # One engine per thread; all cores read a single poster.
  cores = os.cpu_count() or 1
  num_threads = max(1, cores // max(1, len(files)))
  decoded = threads.map_in_order(
    functools.partial(read, predictor, num_threads=num_threads), files
  )
  compilation = None
  if predictor.text is not None:
    # The network is compiled while the first text is read.
    compilation = threading.Thread(
      target=predictor.predict,
      args=[np.zeros((1, *predictor.image_shape, 3), np.uint8)],
      kwargs={'batch_size': batch_size},
    )
    compilation.start()
  for batch in batched(decoded, batch_size):
    if compilation is not None:
      compilation.join()
    yield from score(predictor, batch, batch_size=batch_size)


def score(
  predictor: predictor_lib.Predictor,
  results: Sequence[Result],
  *,
  batch_size: int,
) -> list[Result]:
  """The results of `read`, at most `batch_size`, with their scores."""
  readable = [each for each in results if each.error is None]
  scores = iter(())
  if readable:
    text = predictor.text
    scores = iter(
      predictor.predict(
        np.stack([each.pixels for each in readable]),
        batch_size=batch_size,
        text=text
        and [
          None if each.lines is None else text(each.lines) for each in readable
        ],
      )
    )
  return [
    each if each.error else dataclasses.replace(each, scores=next(scores))
    for each in results
  ]


def read(
  predictor: predictor_lib.Predictor,
  image: Image,
  *,
  max_bytes: int = images.MAX_BYTES,
  num_threads: int = 1,
) -> Result:
  """Reads an image, and the text on it for a network that takes text.

  Args:
    predictor: of the network.
    image: a path, or an image.
    max_bytes: largest file.
    num_threads: of the reader of text.

  Returns:
    The result without scores.
  """
  height, width = predictor.image_shape
  try:
    content = _content(image, max_bytes)
    pixels = image_decoding.decode_and_resize(
      content, height=height, width=width
    )
  except images.BadImageError as e:
    return Result(image, None, None, str(e))
  lines = None
  if predictor.text is not None:
    lines = _read_text(content, predictor.text_reader, num_threads)
  return Result(image, pixels, None, None, lines)


# Members of an ensemble, and the views of a demo, read the same files.
_texts: collections.OrderedDict[tuple, tuple] = collections.OrderedDict()


def _read_text(content, text_reader, num_threads):
  """The text on a poster; None, which is logged, if the engine fails."""
  key = (text_reader, hashlib.sha256(content).digest())
  lines = _texts.get(key)
  if lines is None:
    with poster_text.borrow_engine(
      text_reader, num_threads=num_threads
    ) as engine:
      try:
        lines = poster_text.read(content, engine)
      except Exception as e:  # Depends on the engine.
        logging.warning('The text on a poster cannot be read: %r', e)
        return None
    with _LOCK:
      _texts[key] = lines
      if len(_texts) > _MAX_TEXTS:
        _texts.popitem(last=False)
  return lines


def decode(
  image: Image,
  image_shape: tuple[int, int],
  *,
  max_bytes: int = images.MAX_BYTES,
) -> np.ndarray | images.BadImageError:
  """An image as uint8 [H, W, 3], resized to (H, W), or the error."""
  height, width = image_shape
  try:
    return image_decoding.decode_and_resize(
      _content(image, max_bytes), height=height, width=width
    )
  except images.BadImageError as e:
    return e


def _content(image: Image, max_bytes: int) -> bytes:
  """The bytes of an image file."""
  if isinstance(image, bytes):
    return image
  if isinstance(image, (str, os.PathLike)):
    return images.read(epath.Path(image), max_bytes=max_bytes)
  if isinstance(image, np.ndarray):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
      raise images.BadImageError(
        'not an image',
        f'expected uint8 [height, width, 3], got {image.dtype}'
        f' {list(image.shape)}',
      )
    image = PIL.Image.fromarray(image)
  if not isinstance(image, PIL.Image.Image):
    raise images.BadImageError(
      'not an image',
      f'expected a path, bytes, a PIL image or an array, got a'
      f' {type(image).__name__}',
    )
  encoded = io.BytesIO()
  try:
    # Pillow reads an image when it is used, and not in two threads.
    with _LOCK:
      exif = image.getexif()
      if image.mode not in _PNG_MODES:
        image = image.convert('RGB')
      # The same steps as from a file, without loss.
      image.save(encoded, 'PNG', compress_level=1, exif=exif)
  except Exception as e:  # Pillow's readers raise exceptions of many types.
    raise images.BadImageError(
      'truncated or corrupt image', f'it cannot be read: {e!r}'
    ) from None
  return encoded.getvalue()


def batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
  """Lists of `size` items; the last may be shorter."""
  items = iter(items)
  while batch := list(itertools.islice(items, size)):
    yield batch
