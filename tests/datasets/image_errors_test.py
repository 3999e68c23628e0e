"""Tests of the errors for files that are not images, or too large."""

import struct
import warnings

from etils import epath
from PIL import Image
import pytest

from genre_flax.datasets.posters import images
from tests.support import pictures


def _error_of(content):
  with pytest.raises(images.BadImageError) as error:
    images.open_rgb(content)
  return error.value


def test_missing_files_folders_and_empty_files(tmp_path):
  folder = epath.Path(tmp_path)
  for path, kind, reason in (
    (folder / 'none.jpg', 'missing image', 'there is no such file'),
    (folder, 'not a file', 'it is a folder, a pipe or a device'),
    (pictures.write(tmp_path, b''), 'empty image', 'the file has no bytes'),
    (folder / 'a.jpg' / 'b.jpg', 'missing image', 'there is no such file'),
  ):
    with pytest.raises(images.BadImageError) as error:
      images.check(path)
    assert error.value.kind == kind
    assert reason in error.value.reason
    assert str(error.value) == f'{kind}: {error.value.reason}'


def test_a_file_that_is_too_large_is_not_read(tmp_path):
  path = epath.Path(tmp_path) / 'large.jpg'
  with open(path, 'wb') as file:
    file.truncate(images.MAX_BYTES + 1)
  with pytest.raises(images.BadImageError, match='file too large.*268,435,457'):
    images.read(path)


@pytest.mark.parametrize(
  ('content', 'reason'),
  [
    (b'\n  <!DOCTYPE html><html>', 'HTML page'),
    (b'\xef\xbb\xbf<html>', 'HTML page'),
    (b'hi', "b'hi'"),
    (b'RIFF\0\0\0\0WAVEfmt ', 'expected one of JPEG, PNG, WebP, GIF'),
    (pictures.encode(pictures.red(), 'JPEG2000'), 'jP'),
    (b'BM: a note that is long enough', 'BM'),
  ],
)
def test_the_error_for_other_files_describes_their_contents(content, reason):
  error = _error_of(content)
  assert error.kind == 'not an image'
  assert reason in error.reason


@pytest.mark.parametrize(
  'image_format', ['JPEG', 'PNG', 'WEBP', 'GIF', 'AVIF', 'TIFF', 'BMP']
)
def test_a_truncated_or_corrupt_image_is_refused(image_format):
  content = pictures.encode(pictures.noise(), image_format)
  # 18 bytes identify the format.
  ends = [max(18, int(share * len(content))) for share in (0.02, 0.3, 0.9)]
  damaged = [content[:end] for end in ends]
  if image_format == 'PNG':
    middle = len(content) // 2
    damaged.append(content[:middle] + bytes(50) + content[middle + 50 :])
  for each in damaged:
    error = _error_of(each)
    assert error.kind == 'truncated or corrupt image'
    assert error.reason


def test_a_decompression_bomb_is_refused():
  # Pillow would warn about 12000 x 8000, and raise for 50000 x 50000.
  for width, height in ((8192, 8193), (12000, 8000), (50000, 50000)):
    bomb = pictures.png(width, height, depth=8, color_type=2, rows=[])
    error = _error_of(bomb)
    assert error.kind == 'decompression bomb'
    assert f'{width} x {height} pixels; at most 67,108,864' in error.reason
  # The number of rows of a TIFF's strip becomes the height of a tile.
  tiff = pictures.encode(pictures.red(), 'TIFF')
  rows, tile = (
    struct.pack('<HHII', tag, 4, 1, n) for tag, n in ((278, 60), (323, 1 << 31))
  )
  assert tiff.count(rows) == 1
  assert _error_of(tiff.replace(rows, tile)).kind == 'decompression bomb'
  # 64 megapixels are accepted: the decoder gets as far as the missing pixels.
  error = _error_of(pictures.png(8192, 8192, depth=1, color_type=0, rows=[]))
  assert error.kind == 'truncated or corrupt image'


def test_pixels_of_32_bits_and_run_lengths_are_refused():
  for mode in ('I', 'F'):
    error = _error_of(pictures.encode(Image.new(mode, (4, 4)), 'TIFF'))
    assert error.kind == 'unsupported pixels'
  bmp = bytearray(pictures.encode(pictures.red('L'), 'BMP'))
  bmp[30] = 1  # The compression.
  assert _error_of(bytes(bmp)).kind == 'unsupported compression'


def test_an_image_larger_than_a_jpeg_is_refused(tmp_path):
  path = pictures.write(
    tmp_path, pictures.encode(Image.new('L', (65501, 1)), 'PNG')
  )
  with pytest.raises(images.BadImageError) as error:
    images.check(path)
  assert error.value.kind == 'image too large'
  assert '65501 x 1 pixels' in error.value.reason
  assert '--max_side' in error.value.reason
  assert images.check(path, max_side=100).width == 100


def test_warning_filters_are_not_changed(monkeypatch):
  # They belong to the process, and images are decoded in threads.
  for name in ('catch_warnings', 'simplefilter', 'filterwarnings'):
    monkeypatch.setattr(warnings, name, None)
  for image_format in ('JPEG', 'PNG', 'GIF'):
    images.open_rgb(pictures.encode(pictures.noise(), image_format))
  bomb = pictures.png(12000, 8000, depth=8, color_type=2, rows=[])
  assert _error_of(bomb).kind == 'decompression bomb'
