"""Names the genres of film posters; needs ONNX Runtime, NumPy and Pillow alone.

python predict.py poster.jpg another.png
"""

import json
import math
import os
import pathlib
import stat
import sys
import warnings

import numpy as np
import onnxruntime
from PIL import Image

# A small file can unpack to gigabytes; 64 megapixels take 192 MB.
MAX_PIXELS = 1 << 26
MAX_BYTES = 1 << 28
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF')
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
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def decode_and_resize(path, *, height, width):
  """Reads an image file, upright, in RGB, as uint8 [height, width, 3].

  Raises ValueError or OSError where it is no image that can be read.
  """
  found = os.stat(path)
  if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
    raise ValueError(f'expected a file of at most {MAX_BYTES:,} bytes')
  with Image.open(path, formats=FORMATS) as image:
    if image.width * image.height > MAX_PIXELS:
      raise ValueError(f'more than {MAX_PIXELS:,} pixels')
    if image.format in ('JPEG', 'MPO'):  # A JPEG may be decoded at a half, ...
      swaps = _orientation(image) >= 5
      image.draft('RGB', (height, width) if swaps else (width, height))
    image.load()
    orientation = _orientation(image)
    upright = image.copy()
  if orientation != 1:
    upright = upright.transpose(_TO_UPRIGHT[orientation])
  return np.asarray(_resize(_to_rgb(upright), width, height), np.uint8)


def _resize(image, width, height):
  # One side after the other, such that fewer pixels are between them.
  between = min((image.width, height), (width, image.height), key=math.prod)
  for size in (between, (width, height)):
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
  return image


def _orientation(image):
  try:
    found = image.getexif().get(0x0112)
    return found if found in _TO_UPRIGHT else 1
  except Exception:  # Broken EXIF data is no fault of the picture.
    return 1


def _to_rgb(image):
  if image.mode.startswith('I') or image.mode == 'F':  # 16 bits of grey.
    values = np.asarray(image, np.float32)
    if image.info.get('transparency') is not None:
      values = np.where(values == image.info['transparency'], 65535, values)
    values = np.clip(values / 257.0 + 0.5, 0, 255)
    image = Image.fromarray(values.astype(np.uint8))
  if image.has_transparency_data:  # It is laid on white.
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  return image.convert('RGB')


class Model:
  """The network of a folder that has model.onnx and config.json."""

  def __init__(self, folder):
    """Reads the folder."""
    folder = pathlib.Path(folder)
    self.config = json.loads((folder / 'config.json').read_text('utf-8'))
    self._session = onnxruntime.InferenceSession(
      str(folder / 'model.onnx'), providers=['CPUExecutionProvider']
    )

  def name_genres(self, path):
    """(genre, probability) of all genres of a poster, the likeliest first."""
    image = decode_and_resize(
      path,
      height=self.config['image_height'],
      width=self.config['image_width'],
    )
    scores, logits = self._session.run(
      ['scores', 'logits'], {'images': image[None]}
    )
    # By the logits: scores that are nearly 1 are equal in 32 bits.
    order = np.argsort(-logits[0], kind='stable')
    return [(self.config['genres'][i], float(scores[0, i])) for i in order]


def main(paths):
  """Prints a line for each file; returns 1 where one could not be read."""
  if not paths:
    sys.exit('Give image files: python predict.py poster.jpg')
  # Of a picture that is too large Pillow only warns.
  warnings.simplefilter('error', Image.DecompressionBombWarning)
  model = Model(pathlib.Path(__file__).parent)
  status = 0
  for path in paths:
    try:
      named = model.name_genres(path)[:3]
    except Exception as e:  # Pillow's readers raise whatever they meet.
      print(f'error: {_shown(path)}: {_shown(e)}', file=sys.stderr)
      status = 1
      continue
    parts = [f'{_shown(genre)} {score:.2f}' for genre, score in named]
    print('  '.join([_shown(path), *parts]), flush=True)
  return status


def _shown(text):
  """A text without what a terminal would obey."""
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
