"""Synthetic film posters of a dozen genres, for tests and examples.

Every genre has a palette and a motif. A poster has one to three genres, with
their motifs at random positions and sizes. People, hills, names, the title and
the credits do not depend on the genres. To make the task harder, motifs may be
missing or belong to another genre, as may the palette, and pixels are noisy.
"""

from collections.abc import Callable
import csv
import functools
import io
import math
import random

from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont
from PIL import ImageOps

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import motifs

WIDTH, HEIGHT = motifs.WIDTH, motifs.HEIGHT
_MISSING_MOTIF_RATE = 0.08
_STRAY_MOTIF_RATE = 0.08
_STRAY_PALETTE_RATE = 0.25
_SYLLABLES = ('ka', 'lo', 'ri', 'ven', 'dar', 'mo', 'sul', 'ta', 'ne', 'gar')
_BEGINNINGS = ('THE LAST', 'BEYOND THE', 'MIDNIGHT', 'ANOTHER', 'NO OTHER')
_ENDS = ('RIVER', 'SUMMER', 'HARBOR', 'SIGNAL', 'ROAD', 'STRANGER', 'CITY')

# Masks: opaque in the middle, and opaque at the bottom.
_GLOW = Image.radial_gradient('L').point(lambda value: max(170 - value, 0))
_FADE = Image.linear_gradient('L').resize((WIDTH, 72))
_GRADIENT = _FADE.resize((WIDTH // 2, HEIGHT // 2))
# Reading the font takes as long as drawing a line.
_font = functools.cache(ImageFont.load_default)

Color = tuple[int, int, int]
Rng = random.Random
Motif = Callable[[ImageDraw.ImageDraw, Rng, float, float, float], None]


def draw_poster(
  index: int, *, seed: int = 0
) -> tuple[Image.Image, tuple[str, ...]]:
  """Draws one poster; depends only on its arguments and the Pillow version.

  Returns:
    An RGB image of 160 x 240 pixels, and its sorted genres.
  """
  rng = random.Random(f'{seed}/{index}')
  genres = _sample_genres(rng)
  palette = rng.choice(genres)
  if rng.random() < _STRAY_PALETTE_RATE:
    palette = rng.choice(list(GENRES))
  shift = [rng.randint(-25, 25) for _ in range(3)]
  top, bottom = np.clip(np.add(GENRES[palette][1], shift), 0, 255).tolist()
  image = _backdrop(top, bottom, rng)
  draw = ImageDraw.Draw(image, 'RGBA')
  motifs.hills(draw, rng)
  names = [name for name in genres if rng.random() >= _MISSING_MOTIF_RATE]
  if rng.random() < _STRAY_MOTIF_RATE:
    names.append(rng.choice(list(GENRES)))
  drawn = [*(GENRES[name][2] for name in names), motifs.people]
  rng.shuffle(drawn)
  for motif in drawn:
    size = rng.uniform(0.16, 0.30) * HEIGHT
    x = rng.uniform(0.2, 0.8) * WIDTH
    y = rng.uniform(0.2, 0.55) * HEIGHT
    motif(draw, rng, x, y, size)
  _draw_text(image, bottom, rng)
  # Drawn at twice the size, so that edges are smooth.
  return _add_noise(image.reduce(2), rng), tuple(sorted(genres))


def write_posters(
  folder: epath.PathLike, *, num_posters: int, seed: int = 0
) -> tuple[epath.Path, epath.Path]:
  """Writes a collection as a CSV file and a folder of JPEG files.

  Returns:
    The paths of the CSV file and of the image folder.
  """
  folder = epath.Path(folder)
  image_folder = folder / 'images'
  image_folder.mkdir(parents=True, exist_ok=True)
  table = io.StringIO()
  writer = csv.writer(table, lineterminator='\n')
  writer.writerow(['Id', 'Genre', *sorted(GENRES)])
  for index in range(num_posters):
    name = f'synthetic{index:05d}'
    image, genres = draw_poster(index, seed=seed)
    (image_folder / f'{name}.jpg').write_bytes(images.to_jpeg(image))
    one_hot = [int(genre in genres) for genre in sorted(GENRES)]
    writer.writerow([name, '|'.join(genres), *one_hot])
  csv_file = folder / 'posters.csv'
  csv_file.write_text(table.getvalue())
  return csv_file, image_folder


def _sample_genres(rng: Rng) -> list[str]:
  """Samples one to three genres, with frequencies as in real datasets."""
  names = list(GENRES)
  weights = [GENRES[name][0] for name in names]
  count = rng.choices((1, 2, 3), (0.3, 0.4, 0.3))[0]
  genres: list[str] = []
  while len(genres) < count:
    name = rng.choices(names, weights)[0]
    if name not in genres:
      genres.append(name)
  return genres


def _backdrop(top: Color, bottom: Color, rng: Rng) -> Image.Image:
  """A vertical gradient with a glow."""
  image = Image.new('RGB', _GRADIENT.size, tuple(top))
  image.paste(tuple(bottom), mask=_GRADIENT)
  light = tuple(128 + color // 2 for color in bottom)
  image.paste(light, (rng.randint(-128, 32), 0), _GLOW)
  return image.resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)


def _draw_text(image: Image.Image, color: Color, rng: Rng) -> None:
  """Draws a title, names at the top and credits at the bottom."""
  is_dark = sum(color) < 3 * 128
  paper = tuple(c // 6 if is_dark else 255 - (255 - c) // 6 for c in color)
  ink = (225, 225, 220) if is_dark else (40, 40, 46)
  accents = ((245, 200, 80), (230, 70, 50)) if is_dark else ((190, 30, 40),)
  image.paste(paper, (0, 288), _FADE)
  image.paste(paper, (0, 360, WIDTH, HEIGHT))
  image.paste(ink, (32, 428), _credits(rng.randrange(20)))
  middle, y, title = WIDTH // 2, 394, rng.choice(_ENDS)
  size = min(rng.randint(280, 390) // len(title), 60)
  if rng.random() < 0.3:
    y = 90
    image.paste(paper, (0, 0), ImageOps.flip(_FADE))
  draw = ImageDraw.Draw(image)
  names = '      '.join(_name(rng) for _ in range(rng.randint(1, 2)))
  draw.text((middle, 18), names, ink, _font(14), 'mm')
  beginning = (middle, y - 0.72 * size)
  draw.text(beginning, rng.choice(_BEGINNINGS), ink, _font(18), 'mm')
  fill, width = rng.choice((ink, *accents)), rng.randint(0, size // 25)
  draw.text((middle, y), title, fill, _font(size), 'mm', stroke_width=width)


def _name(rng: Rng) -> str:
  words = (rng.choices(_SYLLABLES, k=k) for k in (2, rng.randint(2, 3)))
  return ' '.join(map(''.join, words)).upper()


@functools.cache
def _credits(number: int) -> Image.Image:
  """A mask of three lines of names in condensed letters."""
  rng, mask = random.Random(number), Image.new('L', (2 * WIDTH, 60))
  lines = ('  '.join(_name(rng) for _ in range(3)) for _ in range(3))
  place, font = (WIDTH, 0), _font(16)
  ImageDraw.Draw(mask).text(place, '\n'.join(lines), 190, font, 'ma')
  return mask.resize((256, 48))


def _add_noise(image: Image.Image, rng: Rng) -> Image.Image:
  """Adds noise of a triangular distribution, with a deviation of 8 levels."""
  shape = (2, image.height, image.width, 1)
  uniform = np.frombuffer(rng.randbytes(math.prod(shape)), np.uint8)
  noise = uniform.reshape(shape).sum(axis=0, dtype=np.int16) - 255
  pixels = np.asarray(image, np.int16) + noise // 13
  return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


# Genre: relative frequency, colors of the background (top, bottom), motif.
GENRES: dict[str, tuple[float, tuple[Color, Color], Motif]] = {
  'Action': (3.0, ((40, 50, 70), (170, 90, 40)), motifs.explosion),
  'Adventure': (2.0, ((120, 180, 220), (200, 190, 140)), motifs.mountains),
  'Animation': (1.2, ((130, 220, 255), (180, 255, 170)), motifs.balloons),
  'Comedy': (5.0, ((250, 250, 245), (255, 225, 130)), motifs.smile),
  'Crime': (2.5, ((25, 25, 35), (70, 65, 60)), motifs.blinds),
  'Documentary': (1.5, ((190, 190, 185), (120, 120, 118)), motifs.film),
  'Drama': (6.0, ((90, 95, 110), (50, 45, 50)), motifs.face),
  'Fantasy': (1.2, ((60, 35, 110), (150, 90, 170)), motifs.moon),
  'Horror': (1.5, ((10, 5, 10), (60, 10, 15)), motifs.blood),
  'Romance': (3.0, ((255, 205, 215), (245, 150, 175)), motifs.heart),
  'Sci-Fi': (1.2, ((5, 10, 40), (30, 60, 110)), motifs.planet),
  'Western': (1.0, ((240, 190, 110), (190, 120, 60)), motifs.cactus),
}
