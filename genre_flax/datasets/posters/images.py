"""Validates image files and converts them to upright RGB JPEG."""

import dataclasses
import hashlib
import io
import re

from absl import logging
from etils import epath
import numpy as np
from PIL import AvifImagePlugin
from PIL import BmpImagePlugin
from PIL import GifImagePlugin
from PIL import Image
from PIL import ImageFile
from PIL import JpegImagePlugin
from PIL import PngImagePlugin
from PIL import TiffImagePlugin
from PIL import WebPImagePlugin

from genre_flax.runtime import files
from genre_flax.runtime import regular_files
from genre_flax.runtime import text

# A poster has well under a megapixel, but a small file can decode to gigabytes.
# 64 megapixels take 192 MB.
MAX_PIXELS = 1 << 26
# Largest file; uncompressed, MAX_PIXELS take less.
MAX_BYTES = 1 << 28
MISSING = 'missing image'  # A kind of BadImageError.
_KINDS = {
  regular_files.MISSING: MISSING,
  regular_files.UNREADABLE: 'unreadable image',
}
_JPEG_QUALITY = 95
_MAX_JPEG_SIDE = 65500  # The limit of libjpeg.

# The first bytes and the reader of each format.
_READERS = {
  'JPEG': (rb'\xff\xd8\xff', JpegImagePlugin.JpegImageFile),
  'PNG': (rb'\x89PNG\r\n\x1a\n', PngImagePlugin.PngImageFile),
  'WebP': (rb'RIFF....WEBP', WebPImagePlugin.WebPImageFile),
  'GIF': (rb'GIF8[79]a', GifImagePlugin.GifImageFile),
  'AVIF': (rb'....ftyp(avi[fs]|mif1)', AvifImagePlugin.AvifImageFile),
  'TIFF': (rb'II[*+]\0|MM\0[*+]', TiffImagePlugin.TiffImageFile),
  # The size of the second header is the version of the format.
  'BMP': (
    rb'BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}',
    BmpImagePlugin.BmpImageFile,
  ),
}
FORMATS = ', '.join(_READERS)
# Of images in folders; with other suffixes, the first bytes count.
SUFFIXES = (
  *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.gif', '.avif'),
  *('.tif', '.tiff', '.bmp'),
)
_ORIENTATION_TAG = 0x0112
# The transposition that turns an image upright, by its EXIF orientation.
_TO_UPRIGHT = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


class BadImageError(regular_files.NotReadableError):
  """An image file cannot be used; arguments: kind, reason."""

  def __str__(self) -> str:
    return f'{self.kind}: {self.reason}'


@dataclasses.dataclass(frozen=True, slots=True)
class CheckedImage:
  """A validated image.

  Attributes:
    height: in pixels, upright and after scaling.
    width: in pixels, upright and after scaling.
    sha256: hash of the file's bytes, in hexadecimal.
    num_bytes: size of the RGB JPEG to store.
    jpeg: the image as RGB JPEG; None if the file itself is stored.
  """

  height: int
  width: int
  sha256: str
  num_bytes: int
  jpeg: bytes | None


def check(path: epath.Path, *, max_side: int | None = None) -> CheckedImage:
  """Reads and decodes one image file.

  Args:
    path: the image file.
    max_side: larger images are scaled down to this longer side, in pixels.

  Returns:
    The image's size and hash, and an RGB JPEG if the file is not one already.

  Raises:
    BadImageError: the file is missing or empty, or does not decode.
  """
  content = read(path)
  image, is_rgb_jpeg = open_rgb(content)
  if max_side is not None and max(image.size) > max_side:
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    is_rgb_jpeg = False
  if not is_rgb_jpeg and max(image.size) > _MAX_JPEG_SIDE:
    raise BadImageError(
      'image too large',
      f'{image.width} x {image.height} pixels; expected at most'
      f' {_MAX_JPEG_SIDE:,} per side, the limit of JPEG. Scale the image down,'
      ' or pass --max_side',
    )
  jpeg = None if is_rgb_jpeg else to_jpeg(image)
  return CheckedImage(
    height=image.height,
    width=image.width,
    sha256=hashlib.sha256(content).hexdigest(),
    num_bytes=len(content if jpeg is None else jpeg),
    jpeg=jpeg,
  )


def is_image(path: epath.Path) -> bool:
  """Whether a file has the suffix or the first bytes of an image format."""
  return path.suffix.lower() in SUFFIXES or bool(
    _find_reader(regular_files.read_start(path, 32))
  )


def _find_reader(content: bytes) -> type[ImageFile.ImageFile] | None:
  for magic, reader in _READERS.values():
    if re.match(magic, content, re.S):
      return reader
  return None


def find(folder: epath.PathLike) -> list[epath.Path]:
  """The images in a folder and below, sorted; other files are logged.

  Raises:
    InputError: a folder cannot be read.
  """
  found, others = [], []
  for path in files.walk(folder):
    (found if is_image(path) else others).append(path)
  if others:
    names = text.join_first([path.name for path in others], limit=20)
    skipped = f'{len(others)} file(s) that are not {FORMATS}: {names}'
    logging.warning('%s: skipped %s.', folder, text.printable(skipped))
  return found


def read(path: epath.Path, *, max_bytes: int = MAX_BYTES) -> bytes:
  """The bytes of an image file.

  Raises:
    BadImageError: the file is missing, unreadable, larger than `max_bytes`, or
      not a regular file.
  """
  try:
    return regular_files.read(path, max_bytes=max_bytes)
  except regular_files.NotReadableError as e:
    kind = _KINDS.get(e.kind, e.kind)
    raise BadImageError(kind, str(e)) from None


def to_jpeg(image: Image.Image) -> bytes:
  """Encodes an RGB image as JPEG of quality 95 without chroma subsampling."""
  encoded = io.BytesIO()
  image.save(encoded, 'JPEG', quality=_JPEG_QUALITY, subsampling=0)
  return encoded.getvalue()


def open_rgb(
  content: bytes, *, at_least: tuple[int, int] | None = None
) -> tuple[Image.Image, bool]:
  """Decodes an image file completely, upright and in RGB.

  Transparent images are composed on white, animations give their first frame,
  16 bits are scaled to 8, and the EXIF orientation is applied.

  Args:
    content: the file's bytes.
    at_least: (width, height) that suffice; a JPEG may then be decoded at a
      half, a quarter or an eighth of its size, which is faster.

  Returns:
    The image in mode RGB, and whether `content` was an upright RGB JPEG.

  Raises:
    BadImageError: the format is not supported, or the bytes do not decode.
  """
  if not content:
    raise BadImageError('empty image', 'the file has no bytes')
  reader = _find_reader(content)
  if reader is None:
    raise BadImageError('not an image', _describe(content))
  # Image.open warns about large or odd files through the warning filters of the
  # process, which are not safe to set in threads, and it opens a phone's JPEG
  # with an embedded picture as another format.
  try:
    with reader(io.BytesIO(content)) as image:
      return _decode(image, at_least)
  except BadImageError:
    raise
  except Image.DecompressionBombError as e:
    raise BadImageError('decompression bomb', str(e)) from None
  except Exception as e:  # Pillow's readers raise exceptions of many types.
    raise BadImageError(
      'truncated or corrupt image',
      f'it does not decode: {str(e) or type(e).__name__}',
    ) from None


def _decode(
  image: ImageFile.ImageFile, at_least: tuple[int, int] | None
) -> tuple[Image.Image, bool]:
  """Decodes an image whose pixels are not yet read; see `open_rgb`."""
  width, height = image.size
  if image.format == 'TIFF':  # A tile may be larger than the image.
    width = max(width, image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 1))
    height = max(height, image.tag_v2.get(TiffImagePlugin.TILELENGTH, 1))
  if width * height > MAX_PIXELS:
    raise BadImageError(
      'decompression bomb',
      f'{width} x {height} pixels; at most {MAX_PIXELS:,} in all are accepted',
    )
  if image.tile and image.tile[0][0] == 'bmp_rle':
    # Pillow decodes 0.3 megapixels per second.
    raise BadImageError(
      'unsupported compression', 'the BMP is run-length coded'
    )
  if at_least is not None:
    # Only JPEG has a draft mode; its EXIF data precedes the pixels.
    swaps_sides = image.format == 'JPEG' and _orientation(image) >= 5
    image.draft('RGB', at_least[::-1] if swaps_sides else at_least)
  image.load()
  orientation = _orientation(image)
  is_rgb_jpeg = (
    image.format == 'JPEG' and image.mode == 'RGB' and orientation == 1
  )
  if orientation != 1:
    image = image.transpose(_TO_UPRIGHT[orientation])
  return _to_rgb(image), is_rgb_jpeg


def _orientation(image: ImageFile.ImageFile) -> int:
  """The EXIF orientation, 1 to 8; 1 is upright."""
  try:
    orientation = image.getexif().get(_ORIENTATION_TAG)
    return orientation if orientation in _TO_UPRIGHT else 1
  except Exception:  # The pixels are usable without the EXIF data.
    return 1


def _to_rgb(image: Image.Image) -> Image.Image:
  if image.mode in ('I', 'F'):
    reason = 'the pixels have 32 bits; expected 8 or 16'
    raise BadImageError('unsupported pixels', reason)
  if image.mode.startswith('I;16'):
    image = _to_8_bits(image)
  if image.has_transparency_data:  # RGB may have a transparent color.
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  return image if image.mode == 'RGB' else image.convert('RGB')


def _to_8_bits(image: Image.Image) -> Image.Image:
  """Converts 16-bit gray."""
  values = np.asarray(image, np.float32)
  transparent = image.info.get('transparency')
  if transparent is not None:
    values = np.where(values == transparent, 65535, values)
  return Image.fromarray(np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8))


def _describe(content: bytes) -> str:
  head = content[:64].removeprefix(b'\xef\xbb\xbf').lstrip().lower()
  if head.startswith((b'<!doctype html', b'<html')):
    return 'the file is an HTML page; download the image again'
  return f'the file starts with {content[:8]!r}; expected one of {FORMATS}'
