"""Tests of reading the text on one poster."""

import importlib.util
import math
import sys
import types

from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
import pytest

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import poster_text
from genre_flax.runtime import errors
from tests.support import pictures

_ENGINES = 'tests.support.text_engines'
needs_rapidocr = pytest.mark.skipif(
  not importlib.util.find_spec('rapidocr'), reason='rapidocr is not installed'
)


def _line(text, confidence=1.0, box=(0, 0, 1, 1)):
  return poster_text.Line(text, confidence, box)


def _render(text, *, size, ink='black', paper='white'):
  image = Image.new('RGB', size, paper)
  font = ImageFont.load_default(48)
  ImageDraw.Draw(image).text((20, 40), text, ink, font, spacing=40)
  return pictures.encode(image, 'PNG')


def test_lines_are_rounded_and_clipped():
  [line] = poster_text.clean([_line('a', 0.98765, (-0.1, 0.12345, 1.5, 1))])
  assert line == ('a', 0.988, (0.0, 0.1235, 1.0, 1.0))
  assert [type(x) for x in line[2]] == [float] * 4


@pytest.mark.parametrize(
  ('text', 'expected'),
  [
    ('  two \t\n words\u3000', 'two words'),
    ('a\x00b\x1b[2J\x7f\ud800c', 'ab[2Jc'),
    ('Ame\u0301lie', 'Am\xe9lie'),
    ('Война и мир 戦争', 'Война и мир 戦争'),
    ('x' * 10**6, 'x' * 200),
    # A composition exclusion: three characters in NFC.
    ('\ufb2c' * 300, '\u05e9\u05bc\u05c1' * 66 + '\u05e9\u05bc'),
  ],
)
def test_text_is_normalized_and_bounded(text, expected):
  assert poster_text.clean([_line(text)])[0].text == expected


def test_lines_without_text_are_left_out_and_others_bounded():
  lines = [_line(' \x00 '), *(_line(f'line {i}') for i in range(300))]
  cleaned = poster_text.clean(lines)
  assert [line.text for line in cleaned] == [f'line {i}' for i in range(100)]


@pytest.mark.parametrize(
  'line',
  [
    (b'bytes', 1, (0, 0, 1, 1)),
    ('a', math.nan, (0, 0, 1, 1)),
    ('a', 1, (0, 0, 1)),
    ('a', 1),
  ],
)
def test_invalid_lines_raise(line):
  with pytest.raises((TypeError, ValueError)):
    poster_text.clean([line])


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('no_such_module:Reader', '--text_reader=.* cannot be imported'),
    (f'{_ENGINES}:HOSTILE', 'is of type str; expected a class'),
    (f'{_ENGINES}:NoName', 'returns NoName; expected a callable object with'),
  ],
)
def test_unusable_engines_are_refused(name, words):
  with pytest.raises(errors.InputError, match=words):
    poster_text.load_engine(name)


def test_a_missing_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'rapidocr', None)
  with pytest.raises(errors.InputError, match=r'\.\[ocr\]'):
    poster_text.load_engine()


def test_engines_are_used_by_one_thread_at_a_time():
  name = f'{_ENGINES}:Colors'
  borrow = poster_text.borrow_engine
  with borrow(name) as first, borrow(name) as second:
    assert second is not first
  with poster_text.borrow_engine(name) as again:
    assert again is first or again is second


@needs_rapidocr
@pytest.mark.parametrize(
  ('size', 'read_size'),
  [
    ((300, 450), (300, 450)),
    ((8000, 8000), (1000, 1000)),
    ((1, 5000), (250, 1000)),
    ((5000, 10), (1000, 250)),
    ((1, 1), (1, 1)),
  ],
)
def test_the_size_of_images_is_bounded(size, read_size, monkeypatch):
  sizes = []

  def read(bgr):
    sizes.append(bgr.shape[1::-1])
    return types.SimpleNamespace(txts=None, boxes=None)

  engine = poster_text.load_engine()
  monkeypatch.setattr(engine, '_reader', read)
  image = Image.new('RGB', size)
  assert engine(image) == []
  assert sizes == [read_size]
  assert image.size == size


@needs_rapidocr
@pytest.mark.parametrize(
  ('ink', 'paper'), [('black', 'white'), ('gold', 'midnightblue')]
)
def test_rapidocr_reads_rendered_text(ink, paper):
  content = _render('MIDNIGHT\nRIVER', size=(400, 600), ink=ink, paper=paper)
  first, second = poster_text.read(content, poster_text.load_engine())
  assert (first.text, second.text) == ('MIDNIGHT', 'RIVER')
  assert min(first.confidence, second.confidence) > 0.9
  left, top, right, bottom = first.box
  # Drawn from (20, 40), about 260 pixels wide and 50 high.
  assert 0.0 < left < 0.1 and 0.5 < right < 0.8
  assert 0.05 < top < bottom < second.box[3] < 0.35


@needs_rapidocr
def test_boxes_of_scaled_and_padded_images_are_shares_of_the_original():
  image = Image.new('RGB', (4000, 500), 'white')
  font = ImageFont.load_default(300)
  ImageDraw.Draw(image).text((2000, 50), 'RIVER', 'black', font)
  engine = poster_text.load_engine()
  [line] = poster_text.read(images.to_jpeg(image), engine)
  assert line.text == 'RIVER'
  left, top, right, bottom = line.box
  assert 0.45 < left < 0.52 and 0.6 < right < 0.8
  assert top < 0.35 and 0.6 < bottom <= 1.0


@needs_rapidocr
def test_rapidocr_finds_nothing_on_a_strip():
  content = pictures.encode(Image.new('RGB', (1, 5000), 'white'), 'PNG')
  assert poster_text.read(content, poster_text.load_engine()) == ()
