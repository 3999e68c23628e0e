"""Image files of many kinds: valid, unusual, damaged and hostile."""

from collections.abc import Iterator
import os
import pathlib
import random
import socket
import struct
import zlib

import numpy as np
from PIL import Image

from tests.support import pictures

# Modes that Pillow writes, by format.
_MODES = {
  'JPEG': ('L', 'RGB', 'CMYK'),
  'PNG': ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'),
  'WEBP': ('RGB', 'RGBA'),
  'GIF': ('1', 'L', 'P'),
  'AVIF': ('RGB', 'RGBA'),
  'TIFF': ('1', 'L', 'RGB', 'RGBA', 'CMYK', 'I;16'),
  'BMP': ('L', 'RGB'),
  'JPEG2000': ('RGB',),
}
_UNSUPPORTED = ('JPEG2000',)
_NAMES = (
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
)


def is_valid(name: str) -> bool:
  """Whether a file of `write` is a readable image."""
  return name.startswith(('ok_', '-ok'))


def _noise(mode: str) -> Image.Image:
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (36, 24, 3), np.uint8)
  if mode == 'I;16':
    return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
  return Image.fromarray(pixels).convert(mode)


def _png(width, height, rows, chunks=()):
  return pictures.png(
    width, height, depth=8, color_type=2, rows=rows, chunks=chunks
  )


def _formats() -> Iterator[tuple[str, bytes]]:
  """Each format and mode: as it is, truncated, and with a flipped bit."""
  for image_format, modes in _MODES.items():
    prefix = 'other' if image_format in _UNSUPPORTED else 'ok'
    for mode in modes:
      content = pictures.encode(_noise(mode), image_format)
      name = f'{image_format}_{mode.replace(";", "")}'.lower()
      yield f'{prefix}_{name}.jpg', content
      for tenth in range(1, 10):
        cut = content[: len(content) * tenth // 10]
        yield f'cut_{name}_{tenth}.png', cut
      rng = random.Random(name)
      for number in range(3):
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        yield f'flipped_{name}_{number}.webp', bytes(damaged)


def _unusual() -> Iterator[tuple[str, bytes]]:
  """Valid files: animations, orientations, large or broken metadata, names."""
  encode, rgb = pictures.encode, _noise('RGB')
  jpeg = encode(rgb, 'JPEG')
  frames = [Image.new('RGB', (24, 36), (n, 0, 0)) for n in range(0, 250, 10)]
  for suffix in ('gif', 'webp', 'png'):
    yield (
      f'ok_animated.{suffix}',
      encode(frames[0], suffix, save_all=True, append_images=frames[1:]),
    )
  for orientation in range(10):
    exif = Image.Exif()
    exif[0x0112] = orientation
    yield f'ok_rotated_{orientation}.jpg', encode(rgb, 'JPEG', exif=exif)
  segment = b'\xff\xe1' + struct.pack('>H', 65535) + b'Exif\0\0' + b'M' * 65527
  yield 'ok_large_exif.jpg', jpeg[:2] + segment * 20 + jpeg[2:]
  yield 'ok_broken_exif.jpg', encode(rgb, 'JPEG', exif=b'Exif\0\0MM\0*junk')
  profile = b'\0' * 2_000_000
  yield 'ok_large_profile.jpg', encode(rgb, 'JPEG', icc_profile=profile)
  yield 'ok_trailing.jpg', jpeg + b'\0' * 1000
  yield 'ok_progressive.jpg', encode(rgb, 'JPEG', progressive=True)
  for name in _NAMES:
    yield os.fsdecode(name), jpeg


def _hostile() -> Iterator[tuple[str, bytes]]:
  """Images that would take much memory, and files that are no images."""
  row = b'\0' * 3 * 60_000
  yield 'bomb_pixels.png', _png(60_000, 60_000, [row])
  yield 'bomb_sides.png', _png(2**31 - 1, 2**31 - 1, [])
  yield 'bomb_zeros.png', _png(0, 0, [])
  text = b'k\0\0' + zlib.compress(b'\0' * 100_000_000)
  yield 'bomb_text.png', _png(24, 36, [], [(b'zTXt', text)])
  sides = struct.pack('<HH', 65535, 65535)
  yield 'bomb_sides.gif', b'GIF89a' + sides + b'\0' * 9
  yield 'empty.jpg', b''
  yield 'page.jpg', b'<!DOCTYPE html><html>404</html>'
  yield 'text.png', b'no image'
  yield 'zip.gif', b'PK\x03\x04' + b'\0' * 100
  yield 'noise.jpg', random.Random(0).randbytes(5000)
  yield 'valid_start.jpg', b'\xff\xd8\xff' + random.Random(1).randbytes(5000)
  for start in (b'\xff\xd8\xff\xe0', b'\x89PNG\r\n\x1a\n', b'GIF89a', b'RIFF'):
    yield f'only_{start[:4].hex()}.jpg', start


def write(folder: pathlib.Path) -> tuple[int, int]:
  """Writes the files, and pipes, links, sockets and devices, to a folder.

  Returns:
    The number of files to report, and the number of valid ones.
  """
  folder.mkdir(parents=True)
  contents = dict((*_formats(), *_unusual(), *_hostile()))
  for name, content in contents.items():
    (folder / name).write_bytes(content)
  os.mkfifo(folder / 'pipe.jpg')
  (folder / 'endless.jpg').symlink_to('/dev/zero')
  (folder / 'terminal.jpg').symlink_to('/dev/tty')
  (folder / 'nowhere.jpg').symlink_to(folder / 'nothing')
  (folder / 'itself.jpg').symlink_to(folder / 'itself.jpg')
  with socket.socket(socket.AF_UNIX) as server:
    # The path of the folder may be too long for a socket.
    descriptor = os.open(folder, os.O_RDONLY)
    server.bind(f'/proc/self/fd/{descriptor}/socket.jpg')
    os.close(descriptor)
  (folder / 'huge.jpg').touch()
  os.truncate(folder / 'huge.jpg', 1 << 40)
  # Folders are searched, and links that loop are followed once.
  (folder / 'folder.jpg').mkdir()
  (folder / 'folder.jpg' / 'up.jpg').symlink_to(folder)
  return len(contents) + 7, sum(map(is_valid, contents))
