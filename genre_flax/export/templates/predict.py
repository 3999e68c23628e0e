"""Predicts film genres from posters; needs ONNX Runtime, NumPy and Pillow.

python predict.py poster.jpg another.png

The text on a poster is not read: a network with a text branch predicts from the
image alone.
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

# A small file can decode to gigabytes; 64 megapixels take 192 MB.
MAX_PIXELS = 1 << 26
MAX_BYTES = 1 << 28
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF')
_ORIENTATION_TAG = 0x0112
# Transposition to the upright image, by EXIF orientation.
_TRANSPOSITIONS = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}
Image.MAX_IMAGE_PIXELS = MAX_PIXELS


class Model:
  """The network in a folder with model.onnx and config.json."""

  def __init__(self, folder):
    """Loads the network."""
    folder = pathlib.Path(folder)
    self.config = json.loads((folder / 'config.json').read_text('utf-8'))
    self._session = onnxruntime.InferenceSession(
      str(folder / 'model.onnx'), providers=['CPUExecutionProvider']
    )

  def predict(self, path):
    """Pairs (genre, probability) for a poster, in descending order.

    Raises ValueError or OSError if the file is not a readable image.
    """
    image = decode_and_resize(
      path,
      height=self.config['image_height'],
      width=self.config['image_width'],
    )
    inputs = {'images': image[None]}
    if 'text' in self.config:  # Zeros: the text was not read.
      shape = (1, self.config['text']['max_ngrams'])
      inputs['text_ids'] = np.zeros(shape, np.int32)
      inputs['text_weights'] = np.zeros(shape, np.float32)
    scores, logits = self._session.run(['scores', 'logits'], inputs)
    # Sorted by logits: scores close to 1 are equal in float32.
    order = np.argsort(-logits[0], kind='stable')
    return [(self.config['genres'][i], float(scores[0, i])) for i in order]


def decode_and_resize(path, *, height, width):
  """Decodes an image file as RGB, upright, uint8 [height, width, 3].

  Raises ValueError or OSError if the file is not a readable image.
  """
  status = os.stat(path)
  if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
    raise ValueError(f'expected a file of at most {MAX_BYTES:,} bytes')
  with Image.open(path, formats=FORMATS) as image:
    if image.width * image.height > MAX_PIXELS:
      raise ValueError(f'more than {MAX_PIXELS:,} pixels')
    if image.format in ('JPEG', 'MPO'):  # Decoded at a fraction of its size.
      swaps_axes = _orientation(image) >= 5
      image.draft('RGB', (height, width) if swaps_axes else (width, height))
    image.load()
    orientation = _orientation(image)
    upright = image.copy()
  if orientation != 1:
    upright = upright.transpose(_TRANSPOSITIONS[orientation])
  return np.asarray(_resize(_to_rgb(upright), width, height), np.uint8)


def _resize(image, width, height):
  # One side after the other, in the order with fewer pixels in between.
  between = min((image.width, height), (width, image.height), key=math.prod)
  for size in (between, (width, height)):
    image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
  return image


def _orientation(image):
  try:
    orientation = image.getexif().get(_ORIENTATION_TAG)
    return orientation if orientation in _TRANSPOSITIONS else 1
  except Exception:  # Invalid EXIF data; the image may be readable.
    return 1


def _to_rgb(image):
  if image.mode.startswith('I') or image.mode == 'F':  # 16-bit grayscale.
    values = np.asarray(image, np.float32)
    if image.info.get('transparency') is not None:
      values = np.where(values == image.info['transparency'], 65535, values)
    values = np.clip(values / 257.0 + 0.5, 0, 255)
    image = Image.fromarray(values.astype(np.uint8))
  if image.has_transparency_data:  # Composed on white.
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    image = Image.alpha_composite(white, image)
  return image.convert('RGB')


def main(paths):
  """Prints a line per file; returns 1 if a file is not readable."""
  if not paths or paths[0] in ('-h', '--help'):
    print(__doc__)
    return 0 if paths else 1
  # Pillow only warns about images that are up to twice too large.
  warnings.simplefilter('error', Image.DecompressionBombWarning)
  model = Model(pathlib.Path(__file__).parent)
  status = 0
  for path in paths:
    try:
      predictions = model.predict(path)[:3]
    except Exception as e:  # Pillow's decoders raise errors of many types.
      print(f'error: {_printable(path)}: {_printable(e)}', file=sys.stderr)
      status = 1
      continue
    parts = [f'{_printable(genre)} {score:.2f}' for genre, score in predictions]
    print('  '.join([_printable(path), *parts]), flush=True)
  return status


def _printable(text):
  """Text without control characters, which could affect the terminal."""
  return ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
