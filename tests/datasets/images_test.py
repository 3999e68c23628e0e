"""Tests of decoding images and converting them to RGB JPEG."""

import hashlib
import io

import numpy as np
from PIL import Image
import pytest

from genre_flax.datasets.posters import images
from tests.support import pictures

encode, red = pictures.encode, pictures.red
_BLACK = Image.new('RGB', (40, 60))


def _each(arguments, cases):
  """Parametrizes a test by a dict of ids and arguments."""
  return pytest.mark.parametrize(arguments, cases.values(), ids=cases)


_TWO_IMAGES = {'save_all': True, 'append_images': [_BLACK]}


@_each(
  'content',
  {
    'jpeg': encode(red(), 'JPEG', quality=95),
    'progressive jpeg': encode(red(), 'JPEG', quality=95, progressive=True),
    'cmyk jpeg': encode(red('CMYK'), 'JPEG', quality=95),
    'png': encode(red(), 'PNG'),
    'palette png': encode(red().quantize(2), 'PNG'),
    'rgba png': encode(red('RGBA'), 'PNG'),
    'webp': encode(red(), 'WEBP', lossless=True),
    'rgba webp': encode(red('RGBA'), 'WEBP', lossless=True),
    'gif': encode(red(), 'GIF'),
    'animated gif': encode(red(), 'GIF', **_TWO_IMAGES),
    'animated webp': encode(red(), 'WEBP', lossless=True, **_TWO_IMAGES),
    'avif': encode(red(), 'AVIF'),
    'animated avif': encode(red(), 'AVIF', **_TWO_IMAGES),
    'tiff': encode(red(), 'TIFF', compression='tiff_lzw'),
    'cmyk tiff': encode(red('CMYK'), 'TIFF'),
    'tiff of two images': encode(red(), 'TIFF', **_TWO_IMAGES),
    'bmp': encode(red(), 'BMP'),
    'jpeg of two images': encode(red(), 'MPO', quality=95, **_TWO_IMAGES),
  },
)
def test_formats_and_modes_are_decoded(content):
  image, _ = images.open_rgb(content)
  assert (image.mode, image.size) == ('RGB', (40, 60))
  for place in ((0, 0), (39, 59)):
    np.testing.assert_allclose(image.getpixel(place), pictures.RED, atol=2)


def _png16(value, image_format='PNG'):
  image = Image.fromarray(np.full((4, 4), value, np.uint16))
  return encode(image, image_format)


def _palette_png(transparency, image_format='PNG'):
  """Entry 2, of level 9, in all pixels."""
  image = Image.new('P', (4, 4), 2)
  image.putpalette([0, 0, 0, 1, 1, 1, 9, 9, 9, 3, 3, 3])
  return encode(image, image_format, transparency=transparency)


def _gray_png16(row, **options):
  return pictures.png(1, 1, depth=16, color_type=0, rows=[row], **options)


def _new(mode, color, **options):
  return encode(Image.new(mode, (4, 4), color), 'PNG', **options)


@_each(
  ('content', 'pixel'),
  {
    'gray': (_new('L', 77), 77),
    'one bit': (_new('1', 1), 255),
    # 25700 = 100 x 257.
    '16 bits': (_png16(25700), 100),
    '16 bits tiff': (_png16(25700, 'TIFF'), 100),
    # 65300 = 254.1 x 257; dividing by 256 would give 255.1.
    '16 bits, light': (_png16(65300), 254),
    '16 bits rgb': (  # 100 x 256 + 7.
      pictures.png(1, 1, depth=16, color_type=2, rows=[b'\x64\x07' * 3]),
      100,
    ),
    'rgba': (_new('RGBA', (9, 9, 9, 0)), 255),
    # 255 x (1 - 128 / 255) = 127.
    'rgba, half': (_new('RGBA', (0, 0, 0, 128)), 127),
    'gray with alpha': (_new('LA', (9, 0)), 255),
    'gray, transparent': (_new('L', 9, transparency=9), 255),
    'gray, opaque': (_new('L', 9, transparency=8), 9),
    'rgb, transparent': (_new('RGB', (9,) * 3, transparency=(9,) * 3), 255),
    'palette, opaque': (_palette_png(1), 9),
    'palette with alpha': (_palette_png(bytes(256)), 255),
    'gif': (_palette_png(2, 'GIF'), 255),
    '16-bit gray': (_gray_png16(b'\1\2', chunks=[(b'tRNS', b'\1\2')]), 255),
  },
)
def test_pixels_have_8_bits_and_are_composed_on_white(content, pixel):
  image, _ = images.open_rgb(content)
  assert image.mode == 'RGB'
  assert image.getpixel((0, 0)) == (pixel, pixel, pixel)


def _quarters():
  """Upright, 16 x 32 pixels: red, green over blue, white."""
  pixels = np.zeros((32, 16, 3), np.uint8)
  pixels[:16, :8] = (255, 0, 0)
  pixels[:16, 8:] = (0, 255, 0)
  pixels[16:, :8] = (0, 0, 255)
  pixels[16:, 8:] = (255, 255, 255)
  return pixels


# Stored pixels of the upright [32, 16] image. The comments are from the EXIF
# standard: the sides that the first stored row and column belong to.
_STORED = {
  1: lambda upright: upright,  # top, left
  2: lambda upright: upright[:, ::-1],  # top, right
  3: lambda upright: upright[::-1, ::-1],  # bottom, right
  4: lambda upright: upright[::-1],  # bottom, left
  5: lambda upright: upright.transpose(1, 0, 2),  # left, top
  6: lambda upright: upright[:, ::-1].transpose(1, 0, 2),  # right, top
  7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
  8: lambda upright: upright[::-1].transpose(1, 0, 2),  # left, bottom
}


def _with_orientation(orientation, image_format, **options):
  exif = Image.Exif()
  exif[0x0112] = orientation
  stored = _STORED.get(orientation, _STORED[1])(_quarters())
  image = Image.fromarray(np.ascontiguousarray(stored))
  return encode(image, image_format, exif=exif, **options)


@pytest.mark.parametrize('orientation', _STORED)
@pytest.mark.parametrize('image_format', ['PNG', 'WEBP', 'TIFF', 'AVIF'])
def test_exif_orientations_are_applied(orientation, image_format):
  options = {
    'WEBP': {'lossless': True},
    'AVIF': {'quality': 100, 'subsampling': '4:4:4'},
  }.get(image_format, {})
  image, _ = images.open_rgb(
    _with_orientation(orientation, image_format, **options)
  )
  atol = 2 if image_format == 'AVIF' else 0
  np.testing.assert_allclose(
    np.asarray(image, int), _quarters().astype(int), atol=atol
  )


@pytest.mark.parametrize('orientation', [2, 3, 4, 5, 6, 7, 8])
def test_a_rotated_jpeg_is_stored_upright(tmp_path, orientation):
  content = _with_orientation(orientation, 'JPEG', subsampling=0)
  checked = images.check(pictures.write(tmp_path, content))
  assert (checked.height, checked.width) == (32, 16)
  with Image.open(io.BytesIO(checked.jpeg)) as stored:
    assert stored.getexif().get(0x0112, 1) == 1
    np.testing.assert_allclose(
      np.asarray(stored, int), _quarters().astype(int), atol=10
    )


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
@_each(
  'content',
  {
    'jpeg': encode(pictures.noise(), 'JPEG'),
    'progressive': encode(pictures.noise(), 'JPEG', progressive=True),
    'one pixel': encode(red(size=(1, 1)), 'JPEG'),
    'two images': encode(pictures.noise(), 'MPO', **_TWO_IMAGES),
    'orientation 0': _with_orientation(0, 'JPEG'),
    'orientation 1': _with_orientation(1, 'JPEG'),
    'orientation 9': _with_orientation(9, 'JPEG'),
    'broken exif': encode(red(), 'JPEG', exif=b'Exif\0\0garbage, no TIFF'),
    'short exif': encode(
      red(), 'JPEG', exif=b'Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03'
    ),
  },
)
def test_an_upright_rgb_jpeg_keeps_its_bytes(tmp_path, content):
  # The suffix does not matter.
  path = pictures.write(tmp_path, content, 'a.png')
  checked = images.check(path, max_side=60)
  assert checked.jpeg is None
  assert checked.num_bytes == len(content)
  assert checked.sha256 == hashlib.sha256(content).hexdigest()


@_each(
  'content',
  {
    'gray jpeg': encode(red('L'), 'JPEG'),
    'cmyk jpeg': encode(red('CMYK'), 'JPEG'),
    'one pixel': encode(red(size=(1, 1)), 'PNG'),
  },
)
def test_other_images_become_rgb_jpegs_of_quality_95(tmp_path, content):
  checked = images.check(pictures.write(tmp_path, content))
  assert checked.sha256 == hashlib.sha256(content).hexdigest()
  with Image.open(io.BytesIO(checked.jpeg)) as stored:
    assert (stored.format, stored.mode) == ('JPEG', 'RGB')
    assert stored.size == (checked.width, checked.height)
    # The tables of libjpeg depend on the quality alone: the first entry is 16
    # at quality 50, and 16 x (200 - 2 x 95) / 100 = 1.6 at 95.
    assert stored.quantization[0][0] == 2


@pytest.mark.parametrize(
  ('size', 'scaled'),
  [
    ((40, 60), (20, 30)),
    ((60, 40), (30, 20)),
    ((31, 30), (30, 29)),
    ((30, 30), None),
    ((3000, 1), (30, 1)),
  ],
)
def test_max_side_scales_down_only(tmp_path, size, scaled):
  content = encode(red(size=size), 'JPEG', quality=95)
  checked = images.check(pictures.write(tmp_path, content), max_side=30)
  if scaled is None:
    assert checked.jpeg is None
    assert (checked.width, checked.height) == size
  else:
    assert (checked.width, checked.height) == scaled
    image, is_rgb_jpeg = images.open_rgb(checked.jpeg)
    assert is_rgb_jpeg
    assert image.size == scaled
    np.testing.assert_allclose(image.getpixel((0, 0)), pictures.RED, atol=3)


@pytest.mark.parametrize(
  ('orientation', 'stored_size', 'at_least', 'size'),
  [
    # The largest divisor of 1, 2, 4, 8 that leaves enough on both sides.
    (1, (320, 480), (160, 240), (160, 240)),
    (1, (320, 480), (161, 240), (320, 480)),
    (1, (320, 480), (40, 60), (40, 60)),
    # Upright it is 480 x 320; half of it would be only 160 pixels high.
    (6, (320, 480), (160, 240), (480, 320)),
    (6, (480, 320), (160, 240), (160, 240)),
  ],
)
def test_a_draft_has_at_least_the_requested_size(
  orientation, stored_size, at_least, size
):
  exif = Image.Exif()
  exif[0x0112] = orientation
  content = encode(red(size=stored_size), 'JPEG', exif=exif)
  image, _ = images.open_rgb(content, at_least=at_least)
  assert image.size == size
