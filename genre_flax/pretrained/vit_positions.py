"""Where a ViT's patches are, and its tokens, as timm has them and we do.

timm keeps one list of positions, of all patches and perhaps of the tokens. Ours
are a grid, which is resampled to posters of any height and width; a token's own
position is part of the token.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.runtime import errors

Arrays = dict[str, np.ndarray]
Grid = tuple[int, int]

_CLASS_TOKEN, _REGISTERS = 'cls_token', 'reg_token'
_POSITION = 'pos_embed'


def take(
  left: Arrays,
  *,
  pool: str,
  has_registers: bool,
  published: Grid | None,
  wanted: Grid,
  origin: str,
) -> tuple[np.ndarray, np.ndarray | None]:
  """Takes the positions of the patches and the tokens out of timm's arrays.

  The patches are of the grid that was published, where it is known. Else they
  are of the one that is wanted, as after an export of ours, or of a square; of
  a square where both have as many.

  Args:
    left: by timm's names; what is taken is removed.
    pool: of the network; 'token' has a class token.
    has_registers: whether it has register tokens.
    published: (rows, columns) of the patches; None where it is not known.
    wanted: (rows, columns) of the network.
    origin: of the arrays, for messages.

  Returns:
    float32 [rows, columns, C], and float32 [tokens, C] with their own positions
    added, or None.

  Raises:
    InputError: arrays are missing, or have other shapes.
  """
  if _POSITION not in left:
    raise errors.InputError(f'{origin} has no {_POSITION}: is it a ViT?')
  position = _take_rows(left, _POSITION, origin)
  has_class_token = pool == 'token'
  names = [_CLASS_TOKEN] * has_class_token + [_REGISTERS] * has_registers
  lacking = [name for name in names if name not in left]
  if lacking:
    raise errors.InputError(
      f'{origin} has no {" and no ".join(lacking)}, which the network has by'
      ' config.model.vit.pool and config.model.vit.num_registers.'
    )
  tokens = [
    _take_rows(left, name, origin, width=position.shape[-1]) for name in names
  ]
  tokens = np.concatenate(tokens) if tokens else None
  num_tokens = 0 if tokens is None else len(tokens)

  likeliest = _square(math.prod(wanted)) or wanted
  for grid in (published or likeliest, likeliest, None):
    # Some give the tokens, or the class token alone, a position too, which is
    # the same as other tokens.
    for placed in sorted({0, num_tokens, int(has_class_token)}):
      places = len(position) - placed
      shape = grid or _square(places)
      if shape and math.prod(shape) == places:
        if placed:
          tokens[:placed] += position[:placed]
        return position[placed:].reshape(*shape, -1), tokens
  raise errors.InputError(
    f'{origin}: {_POSITION} has {len(position)} places; with {num_tokens}'
    f' tokens that is no square of patches, and none of {wanted[0]} x'
    f' {wanted[1]}.'
  )


def _take_rows(left, name, origin, *, width=None):
  """An array as float32 [rows, width], taken out of `left`."""
  array = left.pop(name)
  if not (array.ndim and array.size and width in (None, array.shape[-1])):
    raise errors.InputError(
      f'{origin}: {name} has the shape {array.shape}, expected'
      f' [..., {width or "channels"}].'
    )
  return array.reshape(-1, array.shape[-1]).astype(np.float32)


def _square(places: int) -> tuple[int, int] | None:
  side = math.isqrt(max(places, 0))
  return (side, side) if side and side**2 == places else None


def resample(position: np.ndarray, grid: Grid) -> tuple[np.ndarray, list[str]]:
  """Resamples the positions of patches to another grid.

  By bicubic interpolation (Keys, 1981) with antialiasing, as timm does.

  Args:
    position: float32 [rows, columns, C].
    grid: (rows, columns) that are wanted.

  Returns:
    float32 [*grid, C], and what was done, in words; nothing where it fits.
  """
  if position.shape[:2] == tuple(grid):
    return position, []
  resampled = jax.image.resize(
    jnp.asarray(position), (*grid, position.shape[2]), 'cubic', antialias=True
  )
  rows, columns = position.shape[:2]
  return np.asarray(resampled), [
    f'positions of {rows} x {columns} patches to {grid[0]} x {grid[1]}'
  ]


def to_timm(
  position: np.ndarray,
  tokens: np.ndarray | None,
  *,
  pool: str,
  places_tokens: bool,
) -> Arrays:
  """The inverse of `take`.

  Args:
    position: float32 [rows, columns, C].
    tokens: [tokens, C], or None.
    pool: of the network.
    places_tokens: whether timm's network has a position for its tokens; it is
      0.

  Returns:
    float32 arrays by timm's names.
  """
  arrays = {}
  position = position.reshape(1, -1, position.shape[-1])
  if tokens is not None:
    tokens = np.asarray(tokens, np.float32)[None]
    if places_tokens:
      position = np.concatenate([np.zeros_like(tokens), position], axis=1)
    if pool == 'token':
      arrays[_CLASS_TOKEN], tokens = tokens[:, :1], tokens[:, 1:]
    if tokens.size:
      arrays[_REGISTERS] = tokens
  return {**arrays, _POSITION: position}
