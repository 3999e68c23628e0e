"""Motifs of the synthetic posters, one per genre.

Each is centered near (x, y) with a radius of about `size`, in pixels.
"""

import math
import random

from PIL import ImageDraw

# Size of a poster in pixels.
WIDTH, HEIGHT = 160, 240

Draw = ImageDraw.ImageDraw
Rng = random.Random


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


def explosion(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Three concentric stars."""
  phase = rng.uniform(0, 1)
  for scale, color in (
    (1.0, (235, 70, 20)),
    (0.7, (250, 150, 30)),
    (0.4, (255, 240, 150)),
  ):
    points = _star(x, y, scale * size, scale * size * 0.55, 11, phase)
    draw.polygon(points, fill=color)


def mountains(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Three snowy peaks."""
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


def balloons(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Four balloons on strings."""
  colors = [(255, 80, 90), (80, 200, 90), (70, 130, 255), (255, 200, 40)]
  rng.shuffle(colors)
  places = _ring(x, y, size * 0.55, 4, rng.uniform(0, 1))
  for place, color in zip(places, colors, strict=True):
    draw.line((*place, x, y + size * 1.3), fill=(60, 60, 60, 160))
    draw.ellipse(_box(*place, size * 0.38, size * 0.46), fill=color)
    shine = (place[0] - size * 0.12, place[1] - size * 0.16)
    draw.ellipse(_box(*shine, size * 0.08, size * 0.1), fill=(255, 255, 255))


def smile(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A smiling face."""
  radius = size * 0.75
  draw.ellipse(
    _box(x, y, radius, radius), fill=(255, 214, 40), outline=(90, 60, 10)
  )
  for side in (-1, 1):
    eye = (x + side * radius * 0.35, y - radius * 0.25)
    draw.ellipse(_box(*eye, radius * 0.1, radius * 0.16), fill=(40, 30, 20))
  mouth = _box(x, y + radius * 0.05, radius * 0.55, radius * 0.5)
  draw.chord(mouth, 0, 180, fill=(150, 30, 30))


def blinds(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Light through slanted blinds."""
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


def film(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A strip of three frames."""
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


def face(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A face half in shadow."""
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


def moon(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A crescent and seven stars."""
  draw.ellipse(_box(x, y, size * 0.6, size * 0.6), fill=(250, 240, 190))
  shade = (x + size * 0.25, y - size * 0.1)
  draw.ellipse(_box(*shade, size * 0.5, size * 0.5), fill=(70, 45, 120))
  for _ in range(7):
    place = (x + rng.gauss(0, size), y + rng.gauss(0, size))
    points = _star(*place, size * 0.16, size * 0.05, 4, 0.0)
    draw.polygon(points, fill=(255, 240, 170))


def blood(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Drops from the upper edge of the poster."""
  del x
  draw.rectangle((0, 0, WIDTH, y * 0.25), fill=(140, 0, 5))
  for i in range(9):
    left = (i + rng.uniform(0.1, 0.5)) * WIDTH / 9
    length = y * 0.25 + rng.uniform(0.2, 1.1) * size
    draw.rectangle((left, 0, left + 6, length), fill=(140, 0, 5))
    draw.ellipse(_box(left + 3, length, 4, 6), fill=(140, 0, 5))


def heart(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A heart."""
  color = rng.choice([(225, 30, 70), (240, 80, 130), (200, 20, 40)])
  for side in (-1, 1):
    lobe = (x + side * size * 0.31, y - size * 0.2)
    draw.ellipse(_box(*lobe, size * 0.36, size * 0.36), fill=color)
  draw.polygon(
    [(x - size * 0.63, y - 1), (x + size * 0.63, y - 1), (x, y + size * 0.8)],
    fill=color,
  )


def planet(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A planet with a ring, among stars."""
  for _ in range(14):
    place = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT * 0.7))
    draw.ellipse(_box(*place, 1, 1), fill=(255, 255, 255))
  color = rng.choice([(90, 180, 220), (190, 120, 220), (110, 220, 180)])
  draw.ellipse(_box(x, y, size * 0.6, size * 0.6), fill=color)
  draw.ellipse(
    _box(x, y, size * 1.05, size * 0.22), outline=(230, 230, 245), width=3
  )


def cactus(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A cactus in front of the sun."""
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
