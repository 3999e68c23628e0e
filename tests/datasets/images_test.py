"""Tests of checking image files and bringing them to one form."""

from concurrent import futures
import hashlib
import io
import os
import struct
import warnings
import zlib

from etils import epath
import numpy as np
from PIL import Image
import pytest

from genre_flax.datasets.posters import images

_RED = (200, 30, 40)


def _encode(image, image_format, **options):
  file = io.BytesIO()
  image.save(file, image_format, **options)
  return file.getvalue()


def _red(mode='RGB', size=(40, 60)):
  return Image.new('RGB', size, _RED).convert(mode)


def _third_entry(color):
  image = Image.new('P', (4, 4), 2)
  image.putpalette([0, 0, 0, 1, 1, 1, *color, 3, 3, 3])
  return image


def _noise():
  pixels = np.random.RandomState(0).randint(0, 255, (60, 40, 3))
  return Image.fromarray(pixels.astype(np.uint8))


def _png(width, height, *, depth, color_type, rows, chunks=()):
  """A PNG file by hand: Pillow does not write all kinds."""

  def chunk(name, data):
    crc = zlib.crc32(name + data)
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', crc)

  header = struct.pack('>IIBBBBB', width, height, depth, color_type, 0, 0, 0)
  return b''.join(
    [
      b'\x89PNG\r\n\x1a\n',
      chunk(b'IHDR', header),
      *(chunk(name, data) for name, data in chunks),
      chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row for row in rows))),
      chunk(b'IEND', b''),
    ]
  )


def _first_pixel(content):
  image, _ = images.open_rgb(content)
  assert image.mode == 'RGB'
  return image.getpixel((0, 0))


def _write(tmp_path, content, name='a.jpg'):
  path = epath.Path(tmp_path) / name
  path.write_bytes(content)
  return path


def _bad(content):
  with pytest.raises(images.BadImageError) as error:
    images.open_rgb(content)
  return error.value


@pytest.mark.parametrize(
  'content',
  [
    _encode(_red(), 'JPEG', quality=95),
    _encode(_red(), 'JPEG', quality=95, progressive=True),
    _encode(_red('CMYK'), 'JPEG', quality=95),
    _encode(_red(), 'PNG'),
    _encode(_red().quantize(2), 'PNG'),
    _encode(_red('RGBA'), 'PNG'),
    _encode(_red(), 'WEBP', lossless=True),
    _encode(_red('RGBA'), 'WEBP', lossless=True),
    _encode(_red(), 'GIF'),
    _encode(
      _red(), 'GIF', save_all=True, append_images=[Image.new('RGB', (40, 60))]
    ),
    _encode(
      _red(),
      'WEBP',
      lossless=True,
      save_all=True,
      append_images=[Image.new('RGB', (40, 60))],
    ),
    _encode(
      _red(),
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
    np.testing.assert_allclose(image.getpixel(place), _RED, atol=2)


def test_cmyk_jpeg_is_not_inverted():
  white = Image.new('CMYK', (8, 8), (0, 0, 0, 0))
  assert _first_pixel(_encode(white, 'JPEG')) == (255, 255, 255)
  black = Image.new('CMYK', (8, 8), (0, 0, 0, 255))
  assert _first_pixel(_encode(black, 'JPEG')) == (0, 0, 0)


@pytest.mark.parametrize(
  ('content', 'pixel'),
  [
    (_encode(Image.new('L', (4, 4), 77), 'PNG'), 77),
    (_encode(Image.new('1', (4, 4), 1), 'PNG'), 255),
    # 25700 = 100 x 257, and 65535 = 255 x 257.
    (_encode(Image.fromarray(np.full((4, 4), 25700, np.uint16)), 'PNG'), 100),
    (_encode(Image.fromarray(np.full((4, 4), 65535, np.uint16)), 'PNG'), 255),
    # 65300 = 254.1 x 257; it is not 65300 / 256 = 255.1.
    (_encode(Image.fromarray(np.full((4, 4), 65300, np.uint16)), 'PNG'), 254),
    (_png(1, 1, depth=2, color_type=0, rows=[b'\x40']), 85),  # 1 of 3.
    # RGB of 16 bits: 100 x 256 + 7.
    (_png(1, 1, depth=16, color_type=2, rows=[b'\x64\x07' * 3]), 100),
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
    (_encode(Image.new('RGBA', (4, 4), (9, 9, 9, 0)), 'PNG'), 255),
    # 255 x (1 - 128 / 255) = 127.
    (_encode(Image.new('RGBA', (4, 4), (0, 0, 0, 128)), 'PNG'), 127),
    (_encode(Image.new('RGBA', (4, 4), (9, 9, 9, 255)), 'PNG'), 9),
    (_encode(Image.new('LA', (4, 4), (9, 0)), 'PNG'), 255),
    (_encode(Image.new('L', (4, 4), 9), 'PNG', transparency=9), 255),
    (_encode(Image.new('L', (4, 4), 9), 'PNG', transparency=8), 9),
    (
      _encode(Image.new('RGB', (4, 4), (9,) * 3), 'PNG', transparency=(9,) * 3),
      255,
    ),
    (
      _encode(Image.new('RGB', (4, 4), (9,) * 3), 'PNG', transparency=(8,) * 3),
      9,
    ),
    (_encode(_third_entry((9, 9, 9)), 'PNG', transparency=2), 255),
    (_encode(_third_entry((9, 9, 9)), 'PNG', transparency=1), 9),
    (
      _encode(_red('P', (4, 4)), 'PNG', transparency=bytes([0] * 256)),
      255,
    ),
    (_encode(_third_entry((9, 9, 9)), 'GIF', transparency=2), 255),
    (
      _encode(
        Image.new('RGBA', (4, 4), (9, 9, 9, 0)),
        'WEBP',
        lossless=True,
        exact=True,
      ),
      255,
    ),
    (
      _png(
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
  return _encode(
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
  checked = images.check(_write(tmp_path, content))
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
  assert images.check(_write(tmp_path, content)).jpeg is None


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
@pytest.mark.parametrize(
  'exif',
  [b'Exif\0\0garbage, no TIFF', b'Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03'],
)
def test_broken_exif_data_does_not_spoil_a_picture(tmp_path, exif):
  content = _encode(_red(), 'JPEG', exif=exif)
  checked = images.check(_write(tmp_path, content))
  assert (checked.height, checked.width, checked.jpeg) == (60, 40, None)


@pytest.mark.parametrize(
  'content',
  [
    _encode(_noise(), 'JPEG'),
    _encode(_noise(), 'JPEG', progressive=True),
    _encode(_red(size=(1, 1)), 'JPEG'),
    _encode(_noise(), 'MPO', save_all=True, append_images=[_red()]),
  ],
  ids=['jpeg', 'progressive jpeg', 'one pixel', 'jpeg of two pictures'],
)
def test_a_good_rgb_jpeg_keeps_its_bytes(tmp_path, content):
  # Whatever the file is called.
  checked = images.check(_write(tmp_path, content, 'a.png'), max_side=60)
  assert checked.jpeg is None
  assert checked.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
  'content',
  [
    _encode(_red('L'), 'JPEG'),
    _encode(_red('CMYK'), 'JPEG'),
    _encode(_red(), 'PNG'),
    _encode(_red(), 'WEBP'),
    _encode(_red(), 'GIF'),
    _encode(_red(size=(1, 1)), 'PNG'),
  ],
  ids=['grey jpeg', 'cmyk jpeg', 'png', 'webp', 'gif', 'one pixel'],
)
def test_all_else_becomes_an_rgb_jpeg_of_quality_95(tmp_path, content):
  checked = images.check(_write(tmp_path, content))
  assert checked.sha256 == hashlib.sha256(content).hexdigest()
  with Image.open(io.BytesIO(checked.jpeg)) as stored:
    assert (stored.format, stored.mode) == ('JPEG', 'RGB')
    assert stored.size == (checked.width, checked.height)
    # The tables of libjpeg depend on the quality alone: the first entry is 16
    # at quality 50, and 16 x (200 - 2 x 95) / 100 = 1.6 at 95.
    assert stored.quantization[0][0] == 2


def test_a_reencoded_image_looks_the_same(tmp_path):
  noise = _noise()
  checked = images.check(_write(tmp_path, _encode(noise, 'PNG')))
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
  content = _encode(_red(size=size), 'JPEG', quality=95)
  checked = images.check(_write(tmp_path, content), max_side=30)
  if scaled is None:
    assert checked.jpeg is None
    assert (checked.width, checked.height) == size
  else:
    assert (checked.width, checked.height) == scaled
    image, is_normal = images.open_rgb(checked.jpeg)
    assert is_normal
    assert image.size == scaled
    np.testing.assert_allclose(image.getpixel((0, 0)), _RED, atol=3)


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path):
  folder = epath.Path(tmp_path)
  for path, kind, reason in (
    (folder / 'none.jpg', 'missing image', 'there is no such file'),
    (
      folder,
      'not a file',
      'it is a folder, a pipe or a device; expected a file',
    ),
    (_write(tmp_path, b''), 'empty image', 'the file has no bytes'),
    (folder / 'a.jpg' / 'b.jpg', 'missing image', 'there is no such file'),
  ):
    with pytest.raises(images.BadImageError) as error:
      images.check(path)
    assert (error.value.kind, error.value.reason) == (kind, reason)


def test_pipes_and_devices_are_not_read(tmp_path):
  # A pipe would be waited for, and what is behind the link has no end.
  os.mkfifo(tmp_path / 'pipe.jpg')
  (tmp_path / 'zeros.jpg').symlink_to('/dev/zero')
  for name in ('pipe.jpg', 'zeros.jpg'):
    with pytest.raises(images.BadImageError, match='not a file'):
      images.read(epath.Path(tmp_path / name))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
  path = epath.Path(tmp_path) / 'large.jpg'
  with open(path, 'wb') as file:
    file.truncate(images.MAX_BYTES + 1)
  with pytest.raises(images.BadImageError, match='file too large.*268,435,457'):
    images.read(path)


@pytest.mark.parametrize(
  'content',
  [
    b'<html><body>Not found</body></html>',
    b'\n  <!DOCTYPE html><html>',
    b'\xef\xbb\xbf<!doctype html>',
  ],
)
def test_an_html_page_is_called_one(content):
  error = _bad(content)
  assert error.kind == 'not an image'
  assert 'HTML page' in error.reason


@pytest.mark.parametrize(
  'content',
  [
    b'hi',
    b'\0' * 100,
    b'{"error": 404}',
    b'RIFF\0\0\0\0WAVEfmt ',
    _encode(_red(), 'BMP'),
    _encode(_red(), 'TIFF'),
  ],
)
def test_other_files_are_shown_by_their_first_bytes(content):
  error = _bad(content)
  assert error.kind == 'not an image'
  assert repr(content[:8]) in error.reason
  assert 'expected one of JPEG, PNG, WebP, GIF' in error.reason


@pytest.mark.parametrize('share', [0.02, 0.3, 0.9])
@pytest.mark.parametrize('image_format', ['JPEG', 'PNG', 'WEBP', 'GIF'])
def test_a_truncated_image_is_refused(image_format, share):
  content = _encode(_noise(), image_format)
  # Enough of it to tell the format.
  error = _bad(content[: max(14, int(share * len(content)))])
  assert error.kind == 'truncated or corrupt image'
  assert error.reason


def test_a_png_whose_pixels_are_corrupt_is_refused():
  content = bytearray(_encode(_noise(), 'PNG'))
  middle = len(content) // 2
  content[middle : middle + 50] = bytes(50)
  assert _bad(bytes(content)).kind == 'truncated or corrupt image'


@pytest.mark.parametrize(
  ('width', 'height'), [(8192, 8193), (12000, 8000), (50000, 50000)]
)
def test_a_decompression_bomb_is_refused_unopened(width, height):
  # 12000 x 8000 is where Pillow would warn, 50000 x 50000 where it would raise.
  error = _bad(_png(width, height, depth=8, color_type=2, rows=[]))
  assert error.kind == 'decompression bomb'
  assert f'{width} x {height} pixels; at most 67,108,864' in error.reason


def test_64_megapixels_are_no_bomb():
  # It goes on to the pixels, which this file has not.
  error = _bad(_png(8192, 8192, depth=1, color_type=0, rows=[]))
  assert error.kind == 'truncated or corrupt image'


def test_the_limit_of_pillow_does_not_matter(monkeypatch):
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
  for image_format in ('JPEG', 'PNG'):
    image, _ = images.open_rgb(_encode(_red(), image_format))
    assert image.size == (40, 60)


def test_an_image_with_too_long_a_side_for_jpeg_is_refused(tmp_path):
  path = _write(tmp_path, _encode(Image.new('L', (65501, 1)), 'PNG'))
  with pytest.raises(images.BadImageError) as error:
    images.check(path)
  assert error.value.kind == 'image too large'
  assert '65501 x 1 pixels' in error.value.reason
  assert '--max_side' in error.value.reason
  assert images.check(path, max_side=100).width == 100


def test_the_warning_filters_of_the_process_are_left_alone(
  tmp_path, monkeypatch
):
  def forbidden(*args, **kwargs):
    raise AssertionError('setting warning filters is not safe in threads')

  contents = [
    _encode(_noise(), image_format) for image_format in ('JPEG', 'PNG', 'GIF')
  ] + [_png(12000, 8000, depth=8, color_type=2, rows=[])]
  paths = [_write(tmp_path, contents[i % 4], f'{i}.jpg') for i in range(32)]

  def check(path):
    try:
      return images.check(path).width
    except images.BadImageError as e:
      return e.kind

  for name in ('catch_warnings', 'simplefilter', 'filterwarnings'):
    monkeypatch.setattr(warnings, name, forbidden)
  with futures.ThreadPoolExecutor(8) as pool:
    results = list(pool.map(check, paths))
  assert results == [40, 40, 40, 'decompression bomb'] * 8


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
  content = _encode(_red(size=stored_size), 'JPEG', exif=exif)
  image, _ = images.open_rgb(content, at_least=at_least)
  assert image.size == size


def test_a_bad_image_error_reads_as_kind_and_reason():
  assert str(images.BadImageError('kind', 'reason')) == 'kind: reason'
