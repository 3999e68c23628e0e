"""Positions and tokens of a ViT, in timm's layout and in this package's.

timm keeps one list of positions, of all patches and possibly of the tokens.
Here, the positions of patches are a grid, which is resampled to any height and
width, and the position of a token is part of the token.
"""

from collections.abc import Mapping
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.pretrained import timm_names
from genre_flax.runtime import errors

_CLASS_TOKEN, _REGISTERS, _POSITION = 'cls_token', 'reg_token', 'pos_embed'
_TOKENS_PATH, _POSITION_PATH = 'backbone/tokens', 'backbone/position'


def pop_params(
  arrays: timm_names.Arrays,
  *,
  options: Mapping[str, Any],
  image_shape: tuple[int, int],
  published_shape: tuple[int, int] | None,
  origin: str,
) -> tuple[timm_names.Arrays, list[str]]:
  """Removes the positions and tokens from timm's arrays and converts them.

  Without a published shape, the patches are a square if the network's patches
  can be one, else the network's grid.

  Returns:
    Parameters by flat paths: positions [rows, columns, C], and tokens [tokens,
    C] if there are any; and a description of the resampling, if any.

  Raises:
    InputError: arrays are missing or have other shapes.
  """
  has_class_token = options['pool'] == 'token'
  names = [_POSITION, *[_CLASS_TOKEN] * has_class_token]
  names += [_REGISTERS] * (options['num_registers'] > 0)
  (position, *tokens), shapes = _pop_rows(arrays, names, origin)
  tokens = np.concatenate([*tokens, position[:0]])
  wanted, published = (
    shape and tuple(side // options['patch'] for side in shape)
    for shape in (image_shape, published_shape)
  )
  # Networks have positions of no token, of the class token, or of all tokens.
  likely = _square(math.prod(wanted)) or wanted
  for grid, num_placed in itertools.product(
    (published or likely, likely, None),
    (0, int(has_class_token), len(tokens)),
  ):
    num_patches = len(position) - num_placed
    grid = grid or _square(num_patches)
    if grid and math.prod(grid) == num_patches:
      tokens[:num_placed] += position[:num_placed]
      position = position[num_placed:].reshape(*grid, -1)
      params = {_POSITION_PATH: resample(position, wanted)}
      if len(tokens):
        params[_TOKENS_PATH] = tokens
      change = f'positions of {grid[0]} x {grid[1]} patches to {wanted[0]} x'
      return params, [f'{change} {wanted[1]}'] * (grid != wanted)
  raise errors.InputError(
    f'{origin}: {shapes}; the positions of patches are no square, and not'
    f' {wanted[0]} x {wanted[1]}.'
  )


def _pop_rows(arrays, names, origin) -> tuple[list[np.ndarray], str]:
  """Removes arrays: each as float32 [N, C], and a description of the shapes."""
  if missing := [name for name in names if name not in arrays]:
    raise errors.InputError(
      f'{origin}: {" and ".join(missing)} missing, expected by'
      " config.model.name='vit', config.model.vit.pool and"
      ' config.model.vit.num_registers.'
    )
  popped = [arrays.pop(name) for name in names]
  shapes = ', '.join(
    f'{n} {a.shape}' for n, a in zip(names, popped, strict=True)
  )
  channels = {array.shape[-1:] for array in popped}
  if len(channels) > 1 or channels <= {(), (0,)}:
    raise errors.InputError(
      f'{origin}: expected [..., channels], got {shapes}.'
    )
  rows = [a.reshape(-1, a.shape[-1]).astype(np.float32) for a in popped]
  return rows, shapes


def _square(num_patches: int) -> tuple[int, int] | None:
  side = math.isqrt(max(num_patches, 0))
  return (side, side) if side and side**2 == num_patches else None


def resample(position: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
  """Resamples the positions of patches to another grid.

  By bicubic interpolation (Keys, 1981) with antialiasing, as in timm.

  Args:
    position: float32 [rows, columns, C].
    grid: (rows, columns) of the result.

  Returns:
    float32 [*grid, C].
  """
  if position.shape[:2] == grid:
    return position
  resampled = jax.image.resize(
    jnp.asarray(position), (*grid, position.shape[2]), 'cubic', antialias=True
  )
  return np.asarray(resampled)


def to_timm(
  params: Mapping[str, Any], *, pool: str, bias: np.ndarray | float
) -> timm_names.Arrays:
  """The inverse of `pop_params`, without positions of tokens.

  The `bias` is added to the positions of patches.

  Returns:
    float32 arrays by timm's names.
  """
  position = np.asarray(params[_POSITION_PATH], np.float32)
  position = position + np.asarray(bias, np.float32)
  arrays = {_POSITION: position.reshape(1, -1, position.shape[-1])}
  if _TOKENS_PATH in params:
    tokens = np.asarray(params[_TOKENS_PATH], np.float32)[None]
    if pool == 'token':
      arrays[_CLASS_TOKEN], tokens = tokens[:, :1], tokens[:, 1:]
    if tokens.size:
      arrays[_REGISTERS] = tokens
  return arrays
