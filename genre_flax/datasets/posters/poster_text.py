"""The text on posters: lines with confidence and box, and engines to read it.

An engine is a callable object, the default `RapidOcr` or a custom one, named
'module:attribute' and called without arguments.
"""

import collections
from collections.abc import Iterator, Sequence
import contextlib
from importlib import metadata
from importlib import util
from typing import NamedTuple, Protocol
import unicodedata

import numpy as np
from PIL import Image

from genre_flax.datasets.posters import images
from genre_flax.runtime import custom
from genre_flax.runtime import errors

MAX_LINES = 100
MAX_CHARACTERS = 200  # Per line.
# Limits of the images that RapidOCR reads, in pixels and as a ratio of sides.
_MAX_SIDE = 1000
_MAX_RATIO = 4


class Line(NamedTuple):
  """A line of text on a poster.

  Attributes:
    text: in Unicode's form NFC, without control characters and surrogates, 1 to
      MAX_CHARACTERS characters; runs of white space are one space.
    confidence: of the engine, 0 to 1, rounded to 3 digits.
    box: left, top, right and bottom as shares of the poster's width and height,
      0 to 1, rounded to 4 digits.
  """

  text: str
  confidence: float
  box: tuple[float, float, float, float]


class Engine(Protocol):
  """Reads the text on an RGB image; used by one thread at a time.

  Attributes:
    name: identity of the engine, with versions and settings that change its
      results.
  """

  name: str

  def __call__(self, image: Image.Image) -> Sequence[Line]:
    """The lines of an RGB image, in reading order."""


class RapidOcr:
  """The engine RapidOCR with the models in its package.

  Time and memory are bounded: larger images are scaled down, and strips are
  padded, since the detector enlarges the shorter side to at least 480 pixels.
  """

  def __init__(self, *, num_threads: int = 1):
    """Loads RapidOCR.

    Args:
      num_threads: of each operation.

    Raises:
      InputError: it is not installed.
    """
    try:
      import onnxruntime  # noqa: F401
      import rapidocr
    except ImportError as e:
      raise errors.InputError(
        f'The text on posters cannot be read: {e}. Install the default reader'
        " with `pip install -e '.[ocr]'`, or name a custom one with"
        ' --text_reader=module:attribute.'
      ) from e
    self.name = (
      f'rapidocr {metadata.version("rapidocr")} PP-OCRv6 small, sides 480 to'
      f' {_MAX_SIDE}, ratio {_MAX_RATIO}, {MAX_LINES} candidates'
    )
    runtime = 'EngineConfig.onnxruntime'
    self._reader = rapidocr.RapidOCR(
      params={
        'Global.log_level': 'error',
        'Global.use_cls': False,
        'Det.limit_side_len': 480,
        'Det.max_candidates': MAX_LINES,
        f'{runtime}.intra_op_num_threads': num_threads,
        f'{runtime}.inter_op_num_threads': 1,
      }
    )

  def __call__(self, image: Image.Image) -> list[Line]:
    """The lines of an RGB image, in reading order."""
    if max(image.size) > _MAX_SIDE:
      image = image.copy()
      image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    size = image.size
    shorter = -(-max(size) // _MAX_RATIO)
    if min(size) < shorter:
      canvas = Image.new('RGB', (max(size[0], shorter), max(size[1], shorter)))
      canvas.paste(image)
      image = canvas
    bgr = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
    found = self._reader(bgr)
    if found.txts is None or found.boxes is None:
      return []
    return [
      Line(text, score, (*(box.min(0) / size), *(box.max(0) / size)))
      for text, score, box in zip(
        found.txts, found.scores, found.boxes, strict=True
      )
    ]


def is_installed() -> bool:
  """Whether the packages of the default engine are installed."""
  return all(map(util.find_spec, ('rapidocr', 'onnxruntime')))


def load_engine(text_reader: str = '', *, num_threads: int = 1) -> Engine:
  """Loads an engine.

  Args:
    text_reader: 'module:attribute' of an engine's class or of a function that
      returns an engine; '' for RapidOCR.
    num_threads: of RapidOCR.

  Raises:
    InputError: it cannot be loaded, or has no name.
  """
  if not text_reader:
    return RapidOcr(num_threads=num_threads)
  engine = custom.load(text_reader, key='--text_reader')()
  name = getattr(engine, 'name', None)
  if not callable(engine) or not isinstance(name, str) or not name:
    raise errors.InputError(
      f'--text_reader={text_reader!r} returns {type(engine).__name__}; expected'
      ' a callable object with the attribute `name`, a string.'
    )
  return engine


_idle: dict[str, list[Engine]] = collections.defaultdict(list)


@contextlib.contextmanager
def borrow_engine(
  text_reader: str = '', *, num_threads: int = 1
) -> Iterator[Engine]:
  """An engine that no other thread uses; loaded if there is none.

  Args:
    text_reader: as in `load_engine`.
    num_threads: of RapidOCR, when it is loaded.

  Raises:
    InputError: as `load_engine`.
  """
  try:
    engine = _idle[text_reader].pop()
  except IndexError:
    engine = load_engine(text_reader, num_threads=num_threads)
  try:
    yield engine
  finally:
    _idle[text_reader].append(engine)


def read(content: bytes, engine: Engine) -> tuple[Line, ...]:
  """Reads the text on an image file.

  Args:
    content: the bytes of the file.
    engine: of `borrow_engine`.

  Returns:
    At most MAX_LINES lines, in the engine's order.

  Raises:
    BadImageError: the image does not decode.
    Exception: of the engine, or of invalid lines.
  """
  image, _ = images.open_rgb(content)
  return clean(engine(image))


def clean(lines: Sequence[Line]) -> tuple[Line, ...]:
  """Bounds and normalizes the lines of an engine, see `Line`.

  Lines without visible characters, and those after the first MAX_LINES, are
  left out. Confidence and box are clipped to 0 to 1.

  Raises:
    Exception: a line is not a text, a number and a box of 4 numbers.
  """
  cleaned = []
  for text, confidence, box in lines:
    text = _clean_text(text)
    if not text:
      continue
    left, top, right, bottom = (_clip(side, digits=4) for side in box)
    line = Line(text, _clip(confidence, digits=3), (left, top, right, bottom))
    cleaned.append(line)
    if len(cleaned) == MAX_LINES:
      break
  return tuple(cleaned)


def _clean_text(text: str) -> str:
  # Bounded first, since normalization of a long text takes long.
  text = ' '.join(text[: 4 * MAX_CHARACTERS].split())
  text = ''.join(c for c in text if unicodedata.category(c) not in ('Cc', 'Cs'))
  text = unicodedata.normalize('NFC', ' '.join(text.split()))
  return text[:MAX_CHARACTERS].strip()


def _clip(value: float, *, digits: int) -> float:
  value = float(value)
  if value != value:
    raise ValueError('a confidence or a box is NaN')
  return round(min(max(value, 0.0), 1.0), digits)
