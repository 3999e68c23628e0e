"""Draws film posters of a dozen genres, to try the software on.

Every genre has a palette and a motif. A poster has one to three genres, drawn
over one another at random places and sizes. So that the task is not trivial,
motifs are sometimes missing, sometimes belong to a genre that the poster has
not, the palette may come from anywhere, and the picture is noisy.
"""

from collections.abc import Callable
import csv
import io
import math
import random

from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.datasets.posters import images

WIDTH, HEIGHT = 160, 240
_MISSING_MOTIF_RATE = 0.12
_STRAY_MOTIF_RATE = 0.12
_STRAY_PALETTE_RATE = 0.25
_NOISE = 14.0  # Standard deviation, in levels of 255.

Color = tuple[int, int, int]
Rng = random.Random
Motif = Callable[[ImageDraw.ImageDraw, Rng, float, float, float], None]


def draw_poster(
  index: int, *, seed: int = 0
) -> tuple[Image.Image, tuple[str, ...]]:
  """Draws one poster, always the same for the same arguments.

  Args:
    index: of the poster.
    seed: of the collection.

  Returns:
    An RGB image of 160 x 240 pixels, and its sorted genres.
  """
  rng = random.Random(f'{seed}/{index}')
  genres = _draw_genres(rng)
  palette = rng.choice(genres)
  if rng.random() < _STRAY_PALETTE_RATE:
    palette = rng.choice(list(GENRES))
  image = _gradient(*GENRES[palette][1], rng)
  draw = ImageDraw.Draw(image, 'RGBA')
  motifs = [name for name in genres if rng.random() >= _MISSING_MOTIF_RATE]
  if rng.random() < _STRAY_MOTIF_RATE:
    motifs.append(rng.choice(list(GENRES)))
  rng.shuffle(motifs)
  for name in motifs:
    size = rng.uniform(0.16, 0.30) * HEIGHT
    x = rng.uniform(0.2, 0.8) * WIDTH
    y = rng.uniform(0.2, 0.68) * HEIGHT
    GENRES[name][2](draw, rng, x, y, size)
  _draw_title(draw, rng)
  return _add_noise(image, rng), tuple(sorted(genres))


def write_posters(
  folder: epath.PathLike, *, num_posters: int, seed: int = 0
) -> tuple[epath.Path, epath.Path]:
  """Writes a collection: a CSV file, and a folder of JPEG files.

  Args:
    folder: made where it does not exist.
    num_posters: how many to draw.
    seed: of the collection.

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


def _draw_genres(rng: Rng) -> list[str]:
  """One to three genres, the frequent ones as frequent as in real sets."""
  names = list(GENRES)
  weights = [GENRES[name][0] for name in names]
  count = rng.choices((1, 2, 3), (0.3, 0.4, 0.3))[0]
  genres: list[str] = []
  while len(genres) < count:
    name = rng.choices(names, weights)[0]
    if name not in genres:
      genres.append(name)
  return genres


def _gradient(top: Color, bottom: Color, rng: Rng) -> Image.Image:
  shift = np.array([rng.uniform(-25, 25) for _ in range(3)])
  rows = np.linspace(0, 1, HEIGHT)[:, None]
  colors = (1 - rows) * np.array(top) + rows * np.array(bottom) + shift
  pixels = np.repeat(colors[:, None], WIDTH, axis=1)
  return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _add_noise(image: Image.Image, rng: Rng) -> Image.Image:
  # RandomState's stream is frozen, so the posters are the same on every numpy.
  noise = np.random.RandomState(rng.getrandbits(32)).normal(
    0, _NOISE, (HEIGHT, WIDTH, 1)
  )
  pixels = np.asarray(image, np.float64) + noise
  return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


_SYLLABLES = [
  'ka',
  'lo',
  'ri',
  'ven',
  'dar',
  'mo',
  'sul',
  'ta',
  'ne',
  'bri',
  'on',
  'el',
  'gar',
  'th',
  'us',
  'mar',
  'li',
  'co',
  'ze',
  'ra',
]


def _draw_title(draw: ImageDraw.ImageDraw, rng: Rng) -> None:
  title = ''.join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 4)))
  font = ImageFont.load_default(rng.randint(17, 24))
  ink = rng.choice([(255, 255, 255), (20, 20, 24), (250, 225, 120)])
  y = 0.86 * HEIGHT
  draw.rectangle((0, y - 16, WIDTH, y + 16), fill=(0, 0, 0, 70))
  draw.text((WIDTH / 2, y), title.upper(), ink, font, anchor='mm')
  for line in range(2):
    left, top = WIDTH * 0.2, 0.945 * HEIGHT + 5 * line
    draw.line((left, top, WIDTH - left, top), fill=(*ink, 120))


def _ring(
  x: float, y: float, radius: float, count: int, phase: float = 0.0
) -> list[tuple[float, float]]:
  angles = (phase + 2 * math.pi * i / count for i in range(count))
  return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _box(
  x: float, y: float, half_width: float, half_height: float
) -> tuple[float, float, float, float]:
  return (x - half_width, y - half_height, x + half_width, y + half_height)


def _star(x: float, y: float, outer: float, inner: float, points: int, phase):
  tips = _ring(x, y, outer, points, phase)
  notches = _ring(x, y, inner, points, phase + math.pi / points)
  return [p for pair in zip(tips, notches, strict=True) for p in pair]


def _explosion(draw, rng, x, y, size):
  phase = rng.uniform(0, 1)
  for scale, color in (
    (1.0, (235, 70, 20)),
    (0.7, (250, 150, 30)),
    (0.4, (255, 240, 150)),
  ):
    points = _star(x, y, scale * size, scale * size * 0.55, 11, phase)
    draw.polygon(points, fill=color)


def _mountains(draw, rng, x, y, size):
  base = y + size * 0.6
  for offset, scale in ((-0.6, 0.8), (0.7, 0.7), (0.0, 1.0)):
    peak = (x + offset * size, base - scale * 1.5 * size)
    half = scale * size * rng.uniform(0.7, 0.9)
    draw.polygon(
      [(peak[0] - half, base), peak, (peak[0] + half, base)], fill=(70, 95, 80)
    )
    snow = half * 0.3
    draw.polygon(
      [
        (peak[0] - snow, peak[1] + scale * 0.45 * size),
        peak,
        (peak[0] + snow, peak[1] + scale * 0.45 * size),
      ],
      fill=(240, 245, 250),
    )


def _balloons(draw, rng, x, y, size):
  colors = [(255, 80, 90), (80, 200, 90), (70, 130, 255), (255, 200, 40)]
  rng.shuffle(colors)
  places = _ring(x, y, size * 0.55, 4, rng.uniform(0, 1))
  for place, color in zip(places, colors, strict=True):
    draw.line((*place, x, y + size * 1.3), fill=(60, 60, 60, 160))
    draw.ellipse(_box(*place, size * 0.38, size * 0.46), fill=color)
    shine = (place[0] - size * 0.12, place[1] - size * 0.16)
    draw.ellipse(_box(*shine, size * 0.08, size * 0.1), fill=(255, 255, 255))


def _smile(draw, rng, x, y, size):
  radius = size * 0.75
  draw.ellipse(
    _box(x, y, radius, radius), fill=(255, 214, 40), outline=(90, 60, 10)
  )
  for side in (-1, 1):
    eye = (x + side * radius * 0.35, y - radius * 0.25)
    draw.ellipse(_box(*eye, radius * 0.1, radius * 0.16), fill=(40, 30, 20))
  mouth = _box(x, y + radius * 0.05, radius * 0.55, radius * 0.5)
  draw.chord(mouth, 0, 180, fill=(150, 30, 30))


def _blinds(draw, rng, x, y, size):
  slant = rng.uniform(-0.2, 0.2) * size
  for i in range(6):
    top = y - size * 0.8 + i * size * 0.28
    draw.polygon(
      [
        (x - size * 0.8, top),
        (x + size * 0.8, top + slant),
        (x + size * 0.8, top + slant + size * 0.12),
        (x - size * 0.8, top + size * 0.12),
      ],
      fill=(225, 205, 130, 210),
    )


def _film_strip(draw, rng, x, y, size):
  half_width, half_height = size * 0.55, size * 0.95
  draw.rectangle(_box(x, y, half_width, half_height), fill=(25, 25, 25))
  for i in range(7):
    hole_y = y - half_height + (i + 0.5) * half_height * 2 / 7
    for side in (-1, 1):
      hole = (x + side * half_width * 0.85, hole_y)
      draw.rectangle(_box(*hole, size * 0.05, size * 0.06), fill=(230,) * 3)
  shade = rng.randint(150, 220)
  for i in (-1, 0, 1):
    frame = _box(x, y + i * size * 0.6, half_width * 0.66, size * 0.25)
    draw.rectangle(frame, fill=(shade, shade, shade))


def _face(draw, rng, x, y, size):
  side = rng.choice((-1, 1))
  skin = rng.choice([(196, 150, 120), (120, 85, 65), (226, 188, 160)])
  draw.ellipse(_box(x, y, size * 0.5, size * 0.7), fill=skin)
  shadow = _box(x + side * size * 0.06, y, size * 0.5, size * 0.7)
  start = -90 if side > 0 else 90
  draw.chord(shadow, start, start + 180, fill=(30, 30, 45, 170))
  eye_y, mouth_y = y - size * 0.12, y + size * 0.35
  for eye in (-0.2, 0.2):
    draw.ellipse(
      _box(x + eye * size, eye_y, size * 0.07, size * 0.04), fill=(20, 20, 25)
    )
  draw.line(
    (x - size * 0.14, mouth_y, x + size * 0.14, mouth_y),
    fill=(110, 50, 50),
    width=2,
  )


def _moon_and_stars(draw, rng, x, y, size):
  draw.ellipse(_box(x, y, size * 0.6, size * 0.6), fill=(250, 240, 190))
  shade = (x + size * 0.25, y - size * 0.1)
  draw.ellipse(_box(*shade, size * 0.5, size * 0.5), fill=(70, 45, 120))
  for _ in range(7):
    place = (x + rng.gauss(0, size), y + rng.gauss(0, size))
    points = _star(*place, size * 0.16, size * 0.05, 4, 0.0)
    draw.polygon(points, fill=(255, 240, 170))


def _dripping_blood(draw, rng, x, y, size):
  del x
  draw.rectangle((0, 0, WIDTH, y * 0.25), fill=(140, 0, 5))
  for i in range(9):
    left = (i + rng.uniform(0.1, 0.5)) * WIDTH / 9
    length = y * 0.25 + rng.uniform(0.2, 1.1) * size
    draw.rectangle((left, 0, left + 6, length), fill=(140, 0, 5))
    draw.ellipse(_box(left + 3, length, 4, 6), fill=(140, 0, 5))


def _heart(draw, rng, x, y, size):
  color = rng.choice([(225, 30, 70), (240, 80, 130), (200, 20, 40)])
  for side in (-1, 1):
    lobe = (x + side * size * 0.31, y - size * 0.2)
    draw.ellipse(_box(*lobe, size * 0.36, size * 0.36), fill=color)
  draw.polygon(
    [(x - size * 0.63, y - 1), (x + size * 0.63, y - 1), (x, y + size * 0.8)],
    fill=color,
  )


def _planet(draw, rng, x, y, size):
  for _ in range(14):
    place = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT * 0.7))
    draw.ellipse(_box(*place, 1, 1), fill=(255, 255, 255))
  color = rng.choice([(90, 180, 220), (190, 120, 220), (110, 220, 180)])
  draw.ellipse(_box(x, y, size * 0.6, size * 0.6), fill=color)
  draw.ellipse(
    _box(x, y, size * 1.05, size * 0.22), outline=(230, 230, 245), width=3
  )


def _cactus(draw, rng, x, y, size):
  sun = (x + rng.choice((-1, 1)) * size * 0.6, y - size * 0.3)
  draw.ellipse(_box(*sun, size * 0.5, size * 0.5), fill=(250, 120, 40))
  green, trunk = (50, 110, 60), size * 0.12
  draw.rectangle(_box(x, y, trunk, size * 0.9), fill=green)
  for side, height in ((-1, -0.1), (1, 0.2)):
    joint_y, arm_x = y + height * size, x + side * size * 0.42
    reach = sorted((x, arm_x))
    draw.rectangle((reach[0], joint_y - trunk, reach[1], joint_y), fill=green)
    draw.rectangle(
      (arm_x - trunk, joint_y - size * 0.45, arm_x + trunk, joint_y),
      fill=green,
    )


# Genre: how frequent it is, the background's colours (top, bottom), the motif.
GENRES: dict[str, tuple[float, tuple[Color, Color], Motif]] = {
  'Action': (3.0, ((40, 50, 70), (170, 90, 40)), _explosion),
  'Adventure': (2.0, ((120, 180, 220), (200, 190, 140)), _mountains),
  'Animation': (1.2, ((130, 220, 255), (180, 255, 170)), _balloons),
  'Comedy': (5.0, ((250, 250, 245), (255, 225, 130)), _smile),
  'Crime': (2.5, ((25, 25, 35), (70, 65, 60)), _blinds),
  'Documentary': (1.5, ((190, 190, 185), (120, 120, 118)), _film_strip),
  'Drama': (6.0, ((90, 95, 110), (50, 45, 50)), _face),
  'Fantasy': (1.2, ((60, 35, 110), (150, 90, 170)), _moon_and_stars),
  'Horror': (1.5, ((10, 5, 10), (60, 10, 15)), _dripping_blood),
  'Romance': (3.0, ((255, 205, 215), (245, 150, 175)), _heart),
  'Sci-Fi': (1.2, ((5, 10, 40), (30, 60, 110)), _planet),
  'Western': (1.0, ((240, 190, 110), (190, 120, 60)), _cactus),
}
