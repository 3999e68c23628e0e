"""Image files as bytes."""

import io
import struct
import zlib

from etils import epath
import numpy as np
from PIL import Image

RED = (200, 30, 40)


def encode(image, image_format, **options):
  file = io.BytesIO()
  image.save(file, image_format, **options)
  return file.getvalue()


def red(mode='RGB', size=(40, 60)):
  return Image.new('RGB', size, RED).convert(mode)


def noise():
  pixels = np.random.RandomState(0).randint(0, 255, (60, 40, 3))
  return Image.fromarray(pixels.astype(np.uint8))


def png(width, height, *, depth, color_type, rows, chunks=()):
  """A PNG file of a kind that Pillow does not write."""

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


def write(tmp_path, content, name='a.jpg'):
  path = epath.Path(tmp_path) / name
  path.write_bytes(content)
  return path
