"""Engines that read 'text' from the colors of images, for --text_reader."""

import os
import pathlib
import time

from genre_flax.datasets.posters import poster_text

# The variable with a file that gets a byte per image that is read.
CALLS = 'GENRE_FLAX_TESTS_CALLS'
HOSTILE = 'Kill\x1b[2J <script>alert(1)</script> | `a`\n\ud800 *now*\x00'


def num_calls():
  path = pathlib.Path(os.environ[CALLS])
  return path.stat().st_size if path.exists() else 0


class Colors:
  """Two lines: the color in words, and a constant one."""

  name = 'colors 1'

  def __call__(self, image):
    if CALLS in os.environ:
      with open(os.environ[CALLS], 'ab') as file:
        file.write(b'.')
    red = 20 * round(image.getpixel((0, 0))[0] / 20)
    word = 'dark' if red < 100 else 'bright'
    return [
      poster_text.Line(f'{word} red {red}', 0.98765, (0.123456, 0, 1, 0.5)),
      poster_text.Line('In cinemas', 1, (0, 0.5, 1, 1)),
    ]


class Others(Colors):
  name = 'others 2'


class Slow(Colors):
  name = 'slow'

  def __call__(self, image):
    time.sleep(0.2)
    return super().__call__(image)


class BrightFails(Colors):
  name = 'bright fails'

  def __call__(self, image):
    lines = super().__call__(image)
    if lines[0].text.startswith('bright'):
      raise ValueError('too bright')
    return lines


class Fails(Colors):
  name = 'fails'

  def __call__(self, image):
    raise SystemExit('no model')


class Dies(Colors):
  name = 'dies'

  def __call__(self, image):
    os._exit(3)


class Hostile(Colors):
  name = 'hostile | <b>'

  def __call__(self, image):
    return [poster_text.Line(HOSTILE, 2.0, (-1, 0, 7, 1))]


class NoName:
  def __call__(self, image):
    return []
