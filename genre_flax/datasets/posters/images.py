"""Checks image files, and brings them all to one form: RGB JPEG."""

import dataclasses
import hashlib
import io

from etils import epath
import numpy as np
from PIL import GifImagePlugin
from PIL import Image
from PIL import ImageFile
from PIL import JpegImagePlugin
from PIL import PngImagePlugin
from PIL import WebPImagePlugin

from genre_flax.runtime import regular_files

# A poster has well under a megapixel. A small file can unpack to gigabytes;
# 64 megapixels are 192 MB.
MAX_PIXELS = 1 << 26
# Of a file; that many pixels without compression have no more.
MAX_BYTES = 1 << 28
JPEG_QUALITY = 95
MISSING = 'missing image'  # The kind of error.
_KINDS = {
  regular_files.MISSING: MISSING,
  regular_files.UNREADABLE: 'unreadable image',
}
_MAX_JPEG_SIDE = 65500  # libjpeg writes no more.

_READERS = {
  'JPEG': JpegImagePlugin.JpegImageFile,
  'PNG': PngImagePlugin.PngImageFile,
  'WebP': WebPImagePlugin.WebPImageFile,
  'GIF': GifImagePlugin.GifImageFile,
}
_ORIENTATION_TAG = 0x0112
# How to turn an image upright, by its EXIF orientation.
_TO_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


class BadImageError(ValueError):
  """An image file cannot be used; arguments: kind, reason."""

  def __init__(self, kind: str, reason: str):
    super().__init__(kind, reason)
    self.kind = kind
    self.reason = reason

  def __str__(self) -> str:
    return f'{self.kind}: {self.reason}'


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedImage:
  """An image that decodes.

  Attributes:
    height: in pixels, after normalisation.
    width: in pixels, after normalisation.
    sha256: of the file's bytes, in hexadecimal.
    num_bytes: of the JPEG to keep.
    jpeg: the image as RGB JPEG; None where the file's own bytes are that.
  """

  height: int
  width: int
  sha256: str
  num_bytes: int
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
  if not is_normal and max(image.size) > _MAX_JPEG_SIDE:
    raise BadImageError(
      'image too large',
      f'{image.width} x {image.height} pixels; a JPEG has at most'
      f' {_MAX_JPEG_SIDE:,} a side. Scale it down, or pass --max_side',
    )
  jpeg = None if is_normal else to_jpeg(image)
  return CheckedImage(
    height=image.height,
    width=image.width,
    sha256=hashlib.sha256(content).hexdigest(),
    num_bytes=len(content if jpeg is None else jpeg),
    jpeg=jpeg,
  )


def read(path: epath.Path, *, max_bytes: int = MAX_BYTES) -> bytes:
  """The bytes of an image file.

  Args:
    path: of the file.
    max_bytes: that it may have.

  Raises:
    BadImageError: there is no such file, it cannot be read, is larger than
      `max_bytes`, or is no regular file.
  """
  try:
    return regular_files.read(path, max_bytes=max_bytes)
  except regular_files.NotReadableError as e:
    kind = _KINDS.get(e.kind, e.kind)
    raise BadImageError(kind, e.reason) from None


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
  image_format = _find_format(content)
  if image_format is None:
    raise BadImageError('not an image', _describe(content))
  # Not by Image.open: what that says about large or odd files it says through
  # the warning filters of the process, which threads cannot set safely, and it
  # takes a phone's JPEG with a second picture in it for another format.
  try:
    with _READERS[image_format](io.BytesIO(content)) as image:
      return _decode(image, at_least)
  except BadImageError:
    raise
  except Image.DecompressionBombError as e:
    raise BadImageError('decompression bomb', str(e)) from None
  except Exception as e:  # Pillow's readers raise whatever they meet.
    raise BadImageError(
      'truncated or corrupt image',
      f'it does not decode: {str(e) or type(e).__name__}',
    ) from None


def _find_format(content: bytes) -> str | None:
  """The format by the first bytes, whatever the file is called."""
  if content.startswith(b'\xff\xd8\xff'):
    return 'JPEG'
  if content.startswith(b'\x89PNG\r\n\x1a\n'):
    return 'PNG'
  if content.startswith(b'RIFF') and content[8:12] == b'WEBP':
    return 'WebP'
  if content.startswith((b'GIF87a', b'GIF89a')):
    return 'GIF'
  return None


def _decode(
  image: ImageFile.ImageFile, at_least: tuple[int, int] | None
) -> tuple[Image.Image, bool]:
  """As `open_rgb`, of an image whose pixels are not yet read."""
  if image.width * image.height > MAX_PIXELS:
    raise BadImageError(
      'decompression bomb',
      f'{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} in all'
      ' are accepted',
    )
  if at_least is not None:
    # Of a JPEG the EXIF data is known before the pixels; others have no draft.
    swaps_sides = image.format == 'JPEG' and _orientation(image) >= 5
    image.draft('RGB', at_least[::-1] if swaps_sides else at_least)
  image.load()
  orientation = _orientation(image)
  is_normal = (
    image.format == 'JPEG' and image.mode == 'RGB' and orientation == 1
  )
  if orientation != 1:
    image = image.transpose(_TO_UPRIGHT[orientation])
  return _to_rgb(image), is_normal


def _orientation(image: ImageFile.ImageFile) -> int:
  """By the EXIF data, 1 to 8; 1 is upright."""
  try:
    orientation = image.getexif().get(_ORIENTATION_TAG)
    return orientation if orientation in _TO_UPRIGHT else 1
  except Exception:  # Broken EXIF data is no fault of the picture.
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode.startswith('I') or image.mode == 'F':
    image = _to_8_bits(image)
  if image.has_transparency_data:  # RGB may have a transparent colour.
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  return image if image.mode == 'RGB' else image.convert('RGB')


def _to_8_bits(image: Image.Image) -> Image.Image:
  """16-bit grey, which Pillow has as I;16 or, in older versions, as I."""
  values = np.asarray(image, np.float32)
  transparent = image.info.get('transparency')
  if transparent is not None:
    values = np.where(values == transparent, 65535, values)
  return Image.fromarray(np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8))


def _describe(content: bytes) -> str:
  head = content[:64].removeprefix(b'\xef\xbb\xbf').lstrip().lower()
  if head.startswith((b'<!doctype html', b'<html')):
    return 'the file is an HTML page; download the image anew'
  expected = ', '.join(_READERS)
  return f'the file starts with {content[:8]!r}; expected one of {expected}'
