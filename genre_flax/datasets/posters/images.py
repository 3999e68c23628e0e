"""Checks image files, and brings them all to one form: RGB JPEG."""

import dataclasses
import hashlib
import io
import warnings

from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageOps

# A poster has well under a megapixel. A small file can unpack to gigabytes;
# 64 megapixels are 192 MB.
MAX_PIXELS = 1 << 26
JPEG_QUALITY = 95
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF')


class BadImageError(ValueError):
  """An image file cannot be used; arguments: kind, reason."""

  def __init__(self, kind: str, reason: str):
    super().__init__(kind, reason)
    self.kind = kind
    self.reason = reason

  def __str__(self) -> str:
    return f'{self.kind}: {self.reason}'


@dataclasses.dataclass(frozen=True)
class CheckedImage:
  """An image that decodes.

  Attributes:
    height: in pixels, after normalisation.
    width: in pixels, after normalisation.
    sha256: of the file's bytes, in hexadecimal.
    jpeg: the image as RGB JPEG; None where the file's own bytes are that.
  """

  height: int
  width: int
  sha256: str
  jpeg: bytes | None


def check(path: epath.Path, *, max_side: int | None = None) -> CheckedImage:
  """Reads and decodes one image file.

  Args:
    path: of the file.
    max_side: larger images are scaled down to it, in pixels.

  Returns:
    Its size, hash, and RGB JPEG where the file itself is not fit to be kept.

  Raises:
    BadImageError: the file is missing or empty, or does not decode.
  """
  content = read(path)
  image, is_normal = open_rgb(content)
  if max_side is not None and max(image.size) > max_side:
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    is_normal = False
  jpeg = None if is_normal else to_jpeg(image)
  return CheckedImage(
    height=image.height,
    width=image.width,
    sha256=hashlib.sha256(content).hexdigest(),
    jpeg=jpeg,
  )


def read(path: epath.Path) -> bytes:
  """The bytes of an image file.

  Raises:
    BadImageError: there is no such file, or it cannot be read.
  """
  try:
    return path.read_bytes()
  except (FileNotFoundError, NotADirectoryError):
    raise BadImageError('missing image', 'there is no such file') from None
  except OSError as e:
    raise BadImageError('unreadable image', str(e)) from None


def to_jpeg(image: Image.Image) -> bytes:
  """Encodes an RGB image as JPEG of quality 95 without chroma subsampling."""
  encoded = io.BytesIO()
  image.save(encoded, 'JPEG', quality=JPEG_QUALITY, subsampling=0)
  return encoded.getvalue()


def open_rgb(
  content: bytes, *, at_least: tuple[int, int] | None = None
) -> tuple[Image.Image, bool]:
  """Decodes an image file fully, upright and in RGB.

  Transparency is laid on white; of an animation the first frame is taken; 16
  bits are scaled to 8; the EXIF orientation is applied.

  Args:
    content: the file's bytes.
    at_least: (width, height) that suffice; a JPEG may then be decoded at a
      half, a quarter or an eighth of its size, which is faster.

  Returns:
    The image in mode RGB, and whether `content` was an upright RGB JPEG.

  Raises:
    BadImageError: the bytes are no image of a known format, or do not decode.
  """
  if not content:
    raise BadImageError('empty image', 'the file has no bytes')
  try:
    with warnings.catch_warnings():
      # The limit below is stricter than the one that Pillow warns at.
      warnings.simplefilter('ignore', Image.DecompressionBombWarning)
      image = Image.open(io.BytesIO(content), formats=FORMATS)
  except Image.DecompressionBombError as e:
    raise BadImageError('decompression bomb', str(e)) from None
  except Exception as e:  # Pillow's readers raise whatever they meet.
    raise BadImageError('not an image', _describe(content, e)) from None
  with image:
    if image.width * image.height > MAX_PIXELS:
      raise BadImageError(
        'decompression bomb',
        f'{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} in all'
        ' are accepted',
      )
    is_normal = image.format == 'JPEG' and image.mode == 'RGB'
    try:
      if at_least is not None:
        image.draft('RGB', at_least)
      image.load()
      upright = ImageOps.exif_transpose(image)
      is_normal = (
        is_normal
        and upright.size == image.size
        and (image.getexif().get(0x0112, 1) == 1)
      )
      return _to_rgb(upright), is_normal
    except Exception as e:  # As above.
      raise BadImageError('truncated or corrupt image', str(e)) from None


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode == 'RGB':
    return image
  if image.mode.startswith('I') or image.mode == 'F':
    values = np.asarray(image, np.float32)
    # Pillow has 16-bit grey as I;16 or, from older files, as 32-bit I.
    image = Image.fromarray(
      np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8)
    )
  if image.has_transparency_data:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  return image.convert('RGB')


def _describe(content: bytes, error: Exception) -> str:
  head = content[:64].lstrip().lower()
  if head.startswith((b'<!doctype', b'<html', b'<?xml', b'<')):
    return 'the file is an HTML page, not an image'
  if isinstance(error, Image.UnidentifiedImageError):
    return (
      f'the file starts with {content[:8]!r}, which is none of'
      f' {", ".join(FORMATS)}'
    )
  return str(error)
