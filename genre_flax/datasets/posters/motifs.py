"""Motifs of the synthetic posters: one per genre, and people and hills.

Each is centered near (x, y) with a radius of about `size`, in pixels.
"""

import math
import random

from PIL import ImageDraw

# Size of the canvas in pixels, twice that of a poster.
WIDTH, HEIGHT = 320, 480
_GROUND = 0.69 * HEIGHT  # Where people stand.
_SHADE = (16, 14, 20)

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


def hills(draw: Draw, rng: Rng) -> None:
  """Dark ground with two hills, on every poster."""
  draw.rectangle((0, _GROUND, WIDTH, HEIGHT), _SHADE)
  for _ in range(2):
    x, half_height = rng.uniform(0, WIDTH), rng.uniform(0.02, 0.08) * HEIGHT
    draw.ellipse(_box(x, _GROUND, 0.5 * WIDTH, half_height), _SHADE)


def people(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A bust, or one to three people on the ground, in silhouette."""
  if rng.random() < 0.2:
    y, size = _GROUND - 0.9 * size, 0.5 * size
    draw.ellipse(_box(x, y, 0.5 * size, 0.68 * size), _SHADE)
    draw.rectangle(_box(x, y + 0.7 * size, 0.24 * size, 0.4 * size), _SHADE)
    draw.ellipse(_box(x, y + 2 * size, 1.3 * size, 1.1 * size), _SHADE)
    return
  for i in range(rng.choices((1, 2, 3), (0.6, 0.25, 0.15))[0]):
    _person(draw, rng, x + (i + 1) // 2 * (-1) ** i * 0.45 * size, size)


def _person(draw, rng, center, size):
  """A person in a coat, with or without a hat."""

  def at(x, y):  # In parts of the size, from the feet.
    return (center + x * size, _GROUND - (y - 0.03) * size)

  draw.ellipse(_box(*at(0, 0.91), 0.06 * size, 0.08 * size), _SHADE)
  if rng.random() < 0.4:
    draw.ellipse(_box(*at(0, 0.95), 0.13 * size, 0.022 * size), _SHADE)
    draw.rectangle(_box(*at(0, 0.98), 0.065 * size, 0.04 * size), _SHADE)
  elbow, hand = rng.uniform(0.15, 0.22), rng.uniform(0.08, 0.2)
  leg, hem = rng.uniform(0.07, 0.16), rng.uniform(0.2, 0.42)
  half = [
    *((0, 0.86), (0.03, 0.86), (0.13, 0.79), (elbow, 0.61), (hand, 0.44)),
    *((elbow - 0.06, 0.61), (0.1, 0.67), (0.09, 0.47), (leg + 0.02, hem)),
    *((leg, hem), (leg, 0), (leg - 0.07, 0), (0, 0.4)),
  ]
  for side in (-1, 1):
    draw.polygon([at(side * x, y) for x, y in half], _SHADE)


def explosion(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Three concentric stars."""
  phase = rng.uniform(0, 1)
  colors = ((235, 70, 20), (250, 150, 30), (255, 240, 150))
  for scale, color in zip((1.0, 0.7, 0.4), colors, strict=True):
    points = _star(x, y, scale * size, scale * size * 0.55, 11, phase)
    draw.polygon(points, color)


def mountains(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Three snowy peaks."""
  base = y + size * 0.6
  for offset, scale in ((-0.6, 0.8), (0.7, 0.7), (0.0, 1.0)):
    peak_x, height = x + offset * size, scale * 1.5 * size
    half = scale * size * rng.uniform(0.7, 0.9)
    for share, color in ((1.0, (70, 95, 80)), (0.3, (240, 245, 250))):
      foot = base - (1 - share) * height
      left, right = peak_x - share * half, peak_x + share * half
      draw.polygon([left, foot, peak_x, base - height, right, foot], color)


def balloons(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Four balloons on strings."""
  colors = [(255, 80, 90), (80, 200, 90), (70, 130, 255), (255, 200, 40)]
  rng.shuffle(colors)
  places = _ring(x, y, size * 0.55, 4, rng.uniform(0, 1))
  for place, color in zip(places, colors, strict=True):
    draw.line((*place, x, y + size * 1.3), (60, 60, 60, 160), 2)
    draw.ellipse(_box(*place, size * 0.38, size * 0.46), color)
    shine = (place[0] - size * 0.12, place[1] - size * 0.16)
    draw.ellipse(_box(*shine, size * 0.08, size * 0.1), (255, 255, 255))


def smile(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A smiling face."""
  radius = size * 0.75
  draw.ellipse(_box(x, y, radius, radius), (255, 214, 40), (90, 60, 10), 3)
  for side in (-1, 1):
    eye = (x + side * radius * 0.35, y - radius * 0.25)
    draw.ellipse(_box(*eye, radius * 0.1, radius * 0.16), (40, 30, 20))
  mouth = _box(x, y + radius * 0.05, radius * 0.55, radius * 0.5)
  draw.chord(mouth, 0, 180, (150, 30, 30))


def blinds(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Light through slanted blinds."""
  left, right = x - size * 0.8, x + size * 0.8
  slant = rng.uniform(-0.2, 0.2) * size
  for i in range(6):
    top = y + (i * 0.28 - 0.8) * size
    bottom = top + size * 0.12
    corners = [(left, top), (right, top + slant), (right, bottom + slant)]
    draw.polygon([*corners, (left, bottom)], (225, 205, 130, 210))


def film(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A strip of three frames."""
  half_width, half_height = size * 0.55, size * 0.95
  draw.rectangle(_box(x, y, half_width, half_height), (25, 25, 25))
  for i in range(7):
    hole_y = y - half_height + (i + 0.5) * half_height * 2 / 7
    for side in (-1, 1):
      hole = (x + side * half_width * 0.85, hole_y)
      draw.rectangle(_box(*hole, size * 0.05, size * 0.06), (230,) * 3)
  shade = rng.randint(150, 220)
  for i in (-1, 0, 1):
    frame = _box(x, y + i * size * 0.6, half_width * 0.66, size * 0.25)
    draw.rectangle(frame, (shade, shade, shade))


def face(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A face half in shadow."""
  skin = rng.choice([(196, 150, 120), (120, 85, 65), (226, 188, 160)])
  hair = rng.choice([(40, 28, 24), (96, 58, 34), (20, 18, 22)])
  head = _box(x, y, size * 0.46, size * 0.66)
  draw.ellipse(_box(x, y - size * 0.12, size * 0.55, size * 0.68), hair)
  draw.rectangle(_box(x, y + size * 0.5, size * 0.2, size * 0.4), skin)
  draw.ellipse(head, skin)
  for side in (-1, 1):
    eye = (x + side * 0.2 * size, y - 0.08 * size)
    draw.ellipse(_box(*eye, size * 0.07, size * 0.04), (20, 20, 25))
  mouth = _box(x, y + size * 0.36, size * 0.16, size * 0.04)
  draw.ellipse(mouth, (150, 60, 60))
  start = rng.choice((-90, 90))
  draw.chord(head, start, start + 180, (20, 20, 35, 170))


def moon(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A crescent and seven stars."""
  draw.ellipse(_box(x, y, size * 0.6, size * 0.6), (250, 240, 190))
  shade = (x + size * 0.25, y - size * 0.1)
  draw.ellipse(_box(*shade, size * 0.5, size * 0.5), (70, 45, 120))
  for _ in range(7):
    place = (x + rng.gauss(0, size), y + rng.gauss(0, size))
    points = _star(*place, size * 0.16, size * 0.05, 4, 0.0)
    draw.polygon(points, (255, 240, 170))


def blood(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """Drops from the upper edge of the poster."""
  del x
  color = (140, 0, 5)
  draw.rectangle((0, 0, WIDTH, y * 0.25), color)
  for i in range(9):
    left = (i + rng.uniform(0.1, 0.5)) * WIDTH / 9
    length = y * 0.25 + rng.uniform(0.2, 1.1) * size
    draw.rectangle((left, 0, left + 12, length), color)
    draw.ellipse(_box(left + 6, length, 8, 12), color)


def heart(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A heart."""
  color = rng.choice([(225, 30, 70), (240, 80, 130), (200, 20, 40)])
  for side in (-1, 1):
    lobe = (x + side * size * 0.31, y - size * 0.2)
    draw.ellipse(_box(*lobe, size * 0.36, size * 0.36), color)
  half = size * 0.63
  draw.polygon(
    [(x - half, y - 1), (x + half, y - 1), (x, y + size * 0.8)], color
  )


def planet(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A planet with a ring, among stars."""
  for _ in range(14):
    place = (rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT * 0.7))
    draw.ellipse(_box(*place, 2, 2), (255, 255, 255))
  color = rng.choice([(90, 180, 220), (190, 120, 220), (110, 220, 180)])
  draw.ellipse(_box(x, y, size * 0.6, size * 0.6), color)
  draw.ellipse(_box(x, y, size * 1.05, size * 0.22), None, (230, 230, 245), 6)


def cactus(draw: Draw, rng: Rng, x: float, y: float, size: float) -> None:
  """A cactus in front of the sun."""
  sun = (x + rng.choice((-1, 1)) * size * 0.6, y - size * 0.3)
  draw.ellipse(_box(*sun, size * 0.5, size * 0.5), (250, 120, 40))
  green, trunk = (50, 110, 60), size * 0.15
  draw.rectangle(_box(x, y, trunk, size * 0.9), green)
  for side, height in ((-1, -0.1), (1, 0.2)):
    joint_y, arm_x = y + height * size, x + side * size * 0.42
    top, reach = joint_y - trunk, sorted((x, arm_x))
    draw.rectangle((reach[0], top, reach[1], joint_y), green)
    arm = (arm_x - trunk, joint_y - size * 0.45, arm_x + trunk, joint_y)
    draw.rectangle(arm, green)
