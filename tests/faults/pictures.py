"""Image files of all kinds: sound, odd, broken and hostile."""

from collections.abc import Iterator
import io
import os
import pathlib
import random
import socket
import struct
import zlib

import numpy as np
from PIL import Image

# The modes of each format that Pillow writes.
_MODES = {
  'JPEG': ('L', 'RGB', 'CMYK'),
  'PNG': ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'),
  'WEBP': ('RGB', 'RGBA'),
  'GIF': ('1', 'L', 'P'),
  'BMP': ('RGB',),
  'TIFF': ('RGB',),
}


def _picture(mode: str) -> Image.Image:
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (36, 24, 3), np.uint8)
  if mode == 'I;16':
    return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
  return Image.fromarray(pixels).convert(mode)


def _encode(image: Image.Image, image_format: str, **options) -> bytes:
  encoded = io.BytesIO()
  image.save(encoded, image_format, **options)
  return encoded.getvalue()


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
  parts = [b'\x89PNG\r\n\x1a\n']
  for kind, content in chunks:
    crc = zlib.crc32(kind + content)
    parts += [struct.pack('>I', len(content)), kind, content]
    parts.append(struct.pack('>I', crc))
  return b''.join(parts)


def _png_header(width: int, height: int) -> tuple[bytes, bytes]:
  return b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)


def contents() -> Iterator[tuple[str, bytes]]:
  """Yields file names and contents; a name that begins with ok_ is sound."""
  for image_format, modes in _MODES.items():
    is_read = image_format not in ('BMP', 'TIFF')
    for mode in modes:
      content = _encode(_picture(mode), image_format)
      name = f'{image_format}_{mode.replace(";", "")}'.lower()
      yield f'{"ok" if is_read else "other"}_{name}.jpg', content
      for tenth in range(1, 10):
        cut = content[: len(content) * tenth // 10]
        yield f'cut_{name}_{tenth}.png', cut
      rng = random.Random(name)
      for number in range(3):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        yield f'flipped_{name}_{number}.webp', bytes(damaged)
  rgb = _picture('RGB')
  jpeg = _encode(rgb, 'JPEG')
  frames = [Image.new('RGB', (24, 36), (n, 0, 0)) for n in range(0, 250, 10)]
  animated = {'save_all': True, 'append_images': frames[1:]}
  yield 'ok_animated.gif', _encode(frames[0], 'GIF', **animated)
  yield 'ok_animated.webp', _encode(frames[0], 'WEBP', **animated)
  yield 'ok_animated.png', _encode(frames[0], 'PNG', **animated)
  for orientation in range(10):
    exif = Image.Exif()
    exif[0x0112] = orientation
    yield f'ok_turned_{orientation}.jpg', _encode(rgb, 'JPEG', exif=exif)
  # Application segments: EXIF data, and a colour profile in many parts.
  segment = b'\xff\xe1' + struct.pack('>H', 65535) + b'Exif\0\0' + b'M' * 65527
  yield 'ok_huge_exif.jpg', jpeg[:2] + segment * 20 + jpeg[2:]
  yield 'ok_broken_exif.jpg', _encode(rgb, 'JPEG', exif=b'Exif\0\0MM\0*junk')
  yield (
    'ok_huge_profile.jpg',
    _encode(rgb, 'JPEG', icc_profile=b'\0' * 2_000_000),
  )
  yield 'ok_trailing.jpg', jpeg + b'\0' * 1000
  yield 'ok_progressive.jpg', _encode(rgb, 'JPEG', progressive=True)
  row = b'\0' + b'\0' * 3 * 60_000
  yield (
    'bomb_pixels.png',
    _png(
      [
        _png_header(60_000, 60_000),
        (b'IDAT', zlib.compress(row)),
        (b'IEND', b''),
      ]
    ),
  )
  yield 'bomb_sides.png', _png([_png_header(2**31 - 1, 2**31 - 1)])
  yield 'bomb_zeros.png', _png([_png_header(0, 0), (b'IEND', b'')])
  text = zlib.compress(b'\0' * 100_000_000)
  yield (
    'bomb_text.png',
    _png([_png_header(24, 36), (b'zTXt', b'k\0\0' + text), (b'IEND', b'')]),
  )
  yield (
    'bomb_side.gif',
    b'GIF89a' + struct.pack('<HH', 65535, 65535) + b'\0' * 9,
  )
  yield 'empty.jpg', b''
  yield 'page.jpg', b'<!DOCTYPE html><html>404</html>'
  yield 'text.png', b'no picture at all'
  yield 'zip.gif', b'PK\x03\x04' + b'\0' * 100
  yield 'noise.jpg', random.Random(0).randbytes(5000)
  yield 'begins_well.jpg', b'\xff\xd8\xff' + random.Random(1).randbytes(5000)
  for start in (b'\xff\xd8\xff\xe0', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'RIFF'):
    yield f'only_{start[:4].hex()}.jpg', start
  for name in (
    b'ok_a b.jpg',
    b"ok_it's.jpg",
    b'ok_"quoted".jpg',
    b'ok_line\nfeed.jpg',
    b'ok_\x1b[2J\x1b[31m.jpg',
    b'ok_caf\xe9.jpg',
    b'ok_=cmd().jpg',
    b'ok_<script>alert(1)<_script>.jpg',
    b'ok_%s%n{0}.jpg',
    'ok_東京😀.jpg'.encode(),
    b'-ok.jpg',
    b'ok_' + b'x' * 240 + b'.jpg',
    b'ok_UPPER.JPG',
  ):
    yield os.fsdecode(name), jpeg


def make(folder: pathlib.Path) -> tuple[int, int]:
  """Makes the files, and things that are none, in a folder.

  Returns:
    How many there are to be told of, and how many of them are sound.
  """
  folder.mkdir(parents=True)
  number = sound = 0
  for name, content in contents():
    (folder / name).write_bytes(content)
    number += 1
    sound += name.startswith(('ok_', '-ok'))
  os.mkfifo(folder / 'pipe.jpg')
  (folder / 'endless.jpg').symlink_to('/dev/zero')
  (folder / 'terminal.jpg').symlink_to('/dev/tty')
  (folder / 'nowhere.jpg').symlink_to(folder / 'nothing')
  (folder / 'itself.jpg').symlink_to(folder / 'itself.jpg')
  with socket.socket(socket.AF_UNIX) as server:
    place = os.open(folder, os.O_RDONLY)
    server.bind(f'/proc/self/fd/{place}/socket.jpg')
    os.close(place)
  (folder / 'huge.jpg').touch()
  os.truncate(folder / 'huge.jpg', 1 << 40)
  # Folders are looked into, and links that lead back are followed once.
  (folder / 'folder.jpg').mkdir()
  (folder / 'folder.jpg' / 'up.jpg').symlink_to(folder)
  return number + 7, sound
