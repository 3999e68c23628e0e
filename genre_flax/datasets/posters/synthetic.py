"""Synthetic film posters of a dozen genres, for tests and examples.

Every genre has a palette and a motif. A poster has one to three genres, with
their motifs at random positions and sizes. To make the task harder, motifs may
be missing or belong to another genre, as may the palette, and pixels are noisy.
"""

from collections.abc import Callable
import csv
import io
import random

from etils import epath
import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import motifs

WIDTH, HEIGHT = motifs.WIDTH, motifs.HEIGHT
_MISSING_MOTIF_RATE = 0.12
_STRAY_MOTIF_RATE = 0.12
_STRAY_PALETTE_RATE = 0.25
_NOISE = 14.0  # Standard deviation, in levels of 255.
_SYLLABLES = (
  *('ka', 'lo', 'ri', 'ven', 'dar', 'mo', 'sul', 'ta', 'ne', 'bri'),
  *('on', 'el', 'gar', 'th', 'us', 'mar', 'li', 'co', 'ze', 'ra'),
)

Color = tuple[int, int, int]
Rng = random.Random
Motif = Callable[[ImageDraw.ImageDraw, Rng, float, float, float], None]


def draw_poster(
  index: int, *, seed: int = 0
) -> tuple[Image.Image, tuple[str, ...]]:
  """Draws one poster; deterministic in its arguments.

  Args:
    index: index of the poster.
    seed: seed of the collection.

  Returns:
    An RGB image of 160 x 240 pixels, and its sorted genres.
  """
  rng = random.Random(f'{seed}/{index}')
  genres = _sample_genres(rng)
  palette = rng.choice(genres)
  if rng.random() < _STRAY_PALETTE_RATE:
    palette = rng.choice(list(GENRES))
  image = _gradient(*GENRES[palette][1], rng)
  draw = ImageDraw.Draw(image, 'RGBA')
  names = [name for name in genres if rng.random() >= _MISSING_MOTIF_RATE]
  if rng.random() < _STRAY_MOTIF_RATE:
    names.append(rng.choice(list(GENRES)))
  rng.shuffle(names)
  for name in names:
    size = rng.uniform(0.16, 0.30) * HEIGHT
    x = rng.uniform(0.2, 0.8) * WIDTH
    y = rng.uniform(0.2, 0.68) * HEIGHT
    GENRES[name][2](draw, rng, x, y, size)
  _draw_title(draw, rng)
  return _add_noise(image, rng), tuple(sorted(genres))


def write_posters(
  folder: epath.PathLike, *, num_posters: int, seed: int = 0
) -> tuple[epath.Path, epath.Path]:
  """Writes a collection as a CSV file and a folder of JPEG files.

  Args:
    folder: the folder to write to; created if it does not exist.
    num_posters: number of posters.
    seed: seed of the collection.

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


def _gradient(top: Color, bottom: Color, rng: Rng) -> Image.Image:
  shift = np.array([rng.uniform(-25, 25) for _ in range(3)])
  rows = np.linspace(0, 1, HEIGHT)[:, None]
  colors = (1 - rows) * np.array(top) + rows * np.array(bottom) + shift
  pixels = np.repeat(colors[:, None], WIDTH, axis=1)
  return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _add_noise(image: Image.Image, rng: Rng) -> Image.Image:
  # RandomState's stream is the same in all versions of NumPy.
  noise = np.random.RandomState(rng.getrandbits(32)).normal(
    0, _NOISE, (HEIGHT, WIDTH, 1)
  )
  pixels = np.asarray(image, np.float64) + noise
  return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


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
