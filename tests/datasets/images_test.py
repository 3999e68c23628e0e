"""Tests of checking image files and bringing them to one form."""

import hashlib
import io
import struct

import numpy as np
from PIL import Image
import pytest

from genre_flax.datasets.posters import images
from tests.support import pictures


def _third_entry(color):
  image = Image.new('P', (4, 4), 2)
  image.putpalette([0, 0, 0, 1, 1, 1, *color, 3, 3, 3])
  return image


def _first_pixel(content):
  image, _ = images.open_rgb(content)
  assert image.mode == 'RGB'
  return image.getpixel((0, 0))


@pytest.mark.parametrize(
  'content',
  [
    pictures.encode(pictures.red(), 'JPEG', quality=95),
    pictures.encode(pictures.red(), 'JPEG', quality=95, progressive=True),
    pictures.encode(pictures.red('CMYK'), 'JPEG', quality=95),
    pictures.encode(pictures.red(), 'PNG'),
    pictures.encode(pictures.red().quantize(2), 'PNG'),
    pictures.encode(pictures.red('RGBA'), 'PNG'),
    pictures.encode(pictures.red(), 'WEBP', lossless=True),
    pictures.encode(pictures.red('RGBA'), 'WEBP', lossless=True),
    pictures.encode(pictures.red(), 'GIF'),
    pictures.encode(
      pictures.red(),
      'GIF',
      save_all=True,
      append_images=[Image.new('RGB', (40, 60))],
    ),
    pictures.encode(
      pictures.red(),
      'WEBP',
      lossless=True,
      save_all=True,
      append_images=[Image.new('RGB', (40, 60))],
    ),
    pictures.encode(
      pictures.red(),
      'MPO',
      quality=95,
      save_all=True,
      append_images=[Image.new('RGB', (40, 60))],
    ),
  ],
  ids=[
    'jpeg',
    'progressive jpeg',
    'cmyk jpeg',
    'png',
    'palette png',
    'rgba png',
    'webp',
    'rgba webp',
    'gif',
    'first frame of a gif',
    'first frame of a webp',
    'first picture of a jpeg of two',
  ],
)
def test_formats_and_modes_decode_to_their_colour(content):
  image, _ = images.open_rgb(content)
  assert (image.mode, image.size) == ('RGB', (40, 60))
  for place in ((0, 0), (39, 59)):
    np.testing.assert_allclose(image.getpixel(place), pictures.RED, atol=2)


def test_cmyk_jpeg_is_not_inverted():
  white = Image.new('CMYK', (8, 8), (0, 0, 0, 0))
  assert _first_pixel(pictures.encode(white, 'JPEG')) == (255, 255, 255)
  black = Image.new('CMYK', (8, 8), (0, 0, 0, 255))
  assert _first_pixel(pictures.encode(black, 'JPEG')) == (0, 0, 0)


@pytest.mark.parametrize(
  ('content', 'pixel'),
  [
    (pictures.encode(Image.new('L', (4, 4), 77), 'PNG'), 77),
    (pictures.encode(Image.new('1', (4, 4), 1), 'PNG'), 255),
    # 25700 = 100 x 257, and 65535 = 255 x 257.
    (
      pictures.encode(
        Image.fromarray(np.full((4, 4), 25700, np.uint16)), 'PNG'
      ),
      100,
    ),
    (
      pictures.encode(
        Image.fromarray(np.full((4, 4), 65535, np.uint16)), 'PNG'
      ),
      255,
    ),
    # 65300 = 254.1 x 257; it is not 65300 / 256 = 255.1.
    (
      pictures.encode(
        Image.fromarray(np.full((4, 4), 65300, np.uint16)), 'PNG'
      ),
      254,
    ),
    (pictures.png(1, 1, depth=2, color_type=0, rows=[b'\x40']), 85),  # 1 of 3.
    # RGB of 16 bits: 100 x 256 + 7.
    (pictures.png(1, 1, depth=16, color_type=2, rows=[b'\x64\x07' * 3]), 100),
  ],
  ids=[
    'grey',
    'one bit',
    '16 bit',
    '16 bit white',
    '16 bit light',
    'two bits',
    '16 bit rgb',
  ],
)
def test_grey_and_16_bits_are_scaled_to_8(content, pixel):
  assert _first_pixel(content) == (pixel, pixel, pixel)


@pytest.mark.parametrize(
  ('content', 'pixel'),
  [
    (pictures.encode(Image.new('RGBA', (4, 4), (9, 9, 9, 0)), 'PNG'), 255),
    # 255 x (1 - 128 / 255) = 127.
    (pictures.encode(Image.new('RGBA', (4, 4), (0, 0, 0, 128)), 'PNG'), 127),
    (pictures.encode(Image.new('RGBA', (4, 4), (9, 9, 9, 255)), 'PNG'), 9),
    (pictures.encode(Image.new('LA', (4, 4), (9, 0)), 'PNG'), 255),
    (pictures.encode(Image.new('L', (4, 4), 9), 'PNG', transparency=9), 255),
    (pictures.encode(Image.new('L', (4, 4), 9), 'PNG', transparency=8), 9),
    (
      pictures.encode(
        Image.new('RGB', (4, 4), (9,) * 3), 'PNG', transparency=(9,) * 3
      ),
      255,
    ),
    (
      pictures.encode(
        Image.new('RGB', (4, 4), (9,) * 3), 'PNG', transparency=(8,) * 3
      ),
      9,
    ),
    (pictures.encode(_third_entry((9, 9, 9)), 'PNG', transparency=2), 255),
    (pictures.encode(_third_entry((9, 9, 9)), 'PNG', transparency=1), 9),
    (
      pictures.encode(
        pictures.red('P', (4, 4)), 'PNG', transparency=bytes([0] * 256)
      ),
      255,
    ),
    (pictures.encode(_third_entry((9, 9, 9)), 'GIF', transparency=2), 255),
    (
      pictures.encode(
        Image.new('RGBA', (4, 4), (9, 9, 9, 0)),
        'WEBP',
        lossless=True,
        exact=True,
      ),
      255,
    ),
    (
      pictures.png(
        1,
        1,
        depth=16,
        color_type=0,
        rows=[struct.pack('>H', 300)],
        chunks=[(b'tRNS', struct.pack('>H', 300))],
      ),
      255,
    ),
  ],
  ids=[
    'rgba png',
    'half of rgba png',
    'opaque rgba png',
    'grey with alpha',
    'grey that is transparent',
    'grey that is not',
    'rgb that is transparent',
    'rgb that is not',
    'palette entry',
    'other palette entry',
    'palette alpha',
    'gif',
    'webp',
    '16 bit grey',
  ],
)
def test_transparency_is_laid_on_white(content, pixel):
  assert _first_pixel(content) == (pixel, pixel, pixel)


def _quarters():
  """Upright, 16 x 32 pixels: red, green over blue, white."""
  pixels = np.zeros((32, 16, 3), np.uint8)
  pixels[:16, :8] = (255, 0, 0)
  pixels[:16, 8:] = (0, 255, 0)
  pixels[16:, :8] = (0, 0, 255)
  pixels[16:, 8:] = (255, 255, 255)
  return pixels


# What is stored for the upright [32, 16] picture. EXIF says which side of the
# picture the first row and the first column of the file are.
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
  return pictures.encode(
    Image.fromarray(np.ascontiguousarray(stored)),
    image_format,
    exif=exif,
    **options,
  )


@pytest.mark.parametrize('orientation', _STORED)
@pytest.mark.parametrize('image_format', ['PNG', 'WEBP'])
def test_all_exif_orientations_are_turned_upright(orientation, image_format):
  options = {'lossless': True} if image_format == 'WEBP' else {}
  image, _ = images.open_rgb(
    _with_orientation(orientation, image_format, **options)
  )
  np.testing.assert_array_equal(np.asarray(image), _quarters())


@pytest.mark.parametrize('orientation', [2, 3, 4, 5, 6, 7, 8])
def test_a_turned_jpeg_is_stored_upright(tmp_path, orientation):
  content = _with_orientation(orientation, 'JPEG', subsampling=0)
  checked = images.check(pictures.write(tmp_path, content))
  assert (checked.height, checked.width) == (32, 16)
  # Upright itself, not by EXIF data that other readers may ignore.
  with Image.open(io.BytesIO(checked.jpeg)) as stored:
    assert stored.getexif().get(0x0112, 1) == 1
    np.testing.assert_allclose(
      np.asarray(stored, int), _quarters().astype(int), atol=10
    )


@pytest.mark.parametrize('orientation', [0, 1, 9])
def test_a_jpeg_that_is_not_turned_keeps_its_bytes(tmp_path, orientation):
  content = _with_orientation(orientation, 'JPEG', quality=95)
  assert images.check(pictures.write(tmp_path, content)).jpeg is None


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
@pytest.mark.parametrize(
  'exif',
  [b'Exif\0\0garbage, no TIFF', b'Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03'],
)
def test_broken_exif_data_does_not_spoil_a_picture(tmp_path, exif):
  content = pictures.encode(pictures.red(), 'JPEG', exif=exif)
  checked = images.check(pictures.write(tmp_path, content))
  assert (checked.height, checked.width, checked.jpeg) == (60, 40, None)


@pytest.mark.parametrize(
  'content',
  [
    pictures.encode(pictures.noise(), 'JPEG'),
    pictures.encode(pictures.noise(), 'JPEG', progressive=True),
    pictures.encode(pictures.red(size=(1, 1)), 'JPEG'),
    pictures.encode(
      pictures.noise(), 'MPO', save_all=True, append_images=[pictures.red()]
    ),
  ],
  ids=['jpeg', 'progressive jpeg', 'one pixel', 'jpeg of two pictures'],
)
def test_a_good_rgb_jpeg_keeps_its_bytes(tmp_path, content):
  # Whatever the file is called.
  checked = images.check(
    pictures.write(tmp_path, content, 'a.png'), max_side=60
  )
  assert checked.jpeg is None
  assert checked.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
  'content',
  [
    pictures.encode(pictures.red('L'), 'JPEG'),
    pictures.encode(pictures.red('CMYK'), 'JPEG'),
    pictures.encode(pictures.red(), 'PNG'),
    pictures.encode(pictures.red(), 'WEBP'),
    pictures.encode(pictures.red(), 'GIF'),
    pictures.encode(pictures.red(size=(1, 1)), 'PNG'),
  ],
  ids=['grey jpeg', 'cmyk jpeg', 'png', 'webp', 'gif', 'one pixel'],
)
def test_all_else_becomes_an_rgb_jpeg_of_quality_95(tmp_path, content):
  checked = images.check(pictures.write(tmp_path, content))
  assert checked.sha256 == hashlib.sha256(content).hexdigest()
  with Image.open(io.BytesIO(checked.jpeg)) as stored:
    assert (stored.format, stored.mode) == ('JPEG', 'RGB')
    assert stored.size == (checked.width, checked.height)
    # The tables of libjpeg depend on the quality alone: the first entry is 16
    # at quality 50, and 16 x (200 - 2 x 95) / 100 = 1.6 at 95.
    assert stored.quantization[0][0] == 2


def test_a_reencoded_image_looks_the_same(tmp_path):
  noise = pictures.noise()
  checked = images.check(
    pictures.write(tmp_path, pictures.encode(noise, 'PNG'))
  )
  with Image.open(io.BytesIO(checked.jpeg)) as stored:
    error = np.asarray(stored, int) - np.asarray(noise, int)
  # Uniform noise is the worst case; its standard deviation is 74.
  assert np.sqrt(np.mean(error**2)) < 5


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
def test_max_side_scales_down_and_never_up(tmp_path, size, scaled):
  content = pictures.encode(pictures.red(size=size), 'JPEG', quality=95)
  checked = images.check(pictures.write(tmp_path, content), max_side=30)
  if scaled is None:
    assert checked.jpeg is None
    assert (checked.width, checked.height) == size
  else:
    assert (checked.width, checked.height) == scaled
    image, is_normal = images.open_rgb(checked.jpeg)
    assert is_normal
    assert image.size == scaled
    np.testing.assert_allclose(image.getpixel((0, 0)), pictures.RED, atol=3)


@pytest.mark.parametrize(
  ('orientation', 'stored_size', 'at_least', 'size'),
  [
    # The largest of 1, 2, 4, 8 to divide by that leaves enough on both sides.
    (1, (320, 480), (160, 240), (160, 240)),
    (1, (320, 480), (161, 240), (320, 480)),
    (1, (320, 480), (40, 60), (40, 60)),
    # Upright it is 480 x 320: half of it would be only 160 pixels high.
    (6, (320, 480), (160, 240), (480, 320)),
    (6, (480, 320), (160, 240), (160, 240)),
  ],
)
def test_a_draft_is_never_smaller_than_asked_for(
  orientation, stored_size, at_least, size
):
  exif = Image.Exif()
  exif[0x0112] = orientation
  content = pictures.encode(pictures.red(size=stored_size), 'JPEG', exif=exif)
  image, _ = images.open_rgb(content, at_least=at_least)
  assert image.size == size
