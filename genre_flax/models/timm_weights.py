"""Weights of timm's networks as variables of ours, and back."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.models import batch_norm
from genre_flax.models import params as params_lib
from genre_flax.models import timm_names
from genre_flax.runtime import errors

Arrays = dict[str, np.ndarray]

_ENTRIES = {
  'convnext': timm_names.of_convnext,
  'efficientnet_lite': timm_names.of_efficientnet_lite,
  'vit': timm_names.of_vit,
}
NETWORKS = tuple(_ENTRIES)
_FIRST_LAYER = {
  'vit': 'backbone/embed/dense',
  'convnext': 'backbone/stem/dense',
}
_CLASS_TOKEN, _REGISTERS = 'cls_token', 'reg_token'
_POSITION = 'pos_embed'
_OURS_TOKENS, _OURS_POSITION = 'backbone/tokens', 'backbone/position'
# Counters of PyTorch's BatchNorm, which nothing is computed from.
_COUNTERS = '.num_batches_tracked'
# What a CLIP lacks, whose patches are projected without a bias.
_MAY_LACK = 'backbone/embed/dense/bias'


@dataclasses.dataclass(frozen=True)
class Taken:
  """What became of a file of weights.

  Attributes:
    params: by our names, as a tree; without the head where it lacks one.
    batch_stats: the statistics of BatchNorm, as a tree.
    num_taken: arrays of the file.
    resampled: what was resampled to other sizes, in words.
    lacking: our parameters that it has no array for, and that begin at 0.
  """

  params: dict[str, Any]
  batch_stats: dict[str, Any]
  num_taken: int
  resampled: Sequence[str]
  lacking: Sequence[str]


def to_variables(
  arrays: Mapping[str, np.ndarray],
  *,
  network: str,
  options: Mapping[str, Any],
  image_shape: tuple[int, int],
  origin: str,
  published_shape: tuple[int, int] | None = None,
) -> Taken:
  """Takes timm's arrays for a network of ours.

  Args:
    arrays: by timm's names.
    network: one of NETWORKS.
    options: of the network, `config.model.NETWORK`.
    image_shape: (height, width) that it is made for, in pixels.
    origin: of the arrays, for messages.
    published_shape: (height, width) that they are of; None where that is not
      known, and a square is likeliest.

  Returns:
    The parameters and statistics, float32.

  Raises:
    InputError: arrays are missing, left over, or of other shapes than the
      network's.
  """
  left = {
    name: np.asarray(array)
    for name, array in arrays.items()
    if not name.endswith(_COUNTERS)
  }
  flat = {'params': {}, 'batch_stats': {}}
  params, num_taken = flat['params'], len(left)
  missing, lacking, resampled = [], [], []
  if network == 'vit':
    grid, published_grid = (
      shape and tuple(side // options['patch'] for side in shape)
      for shape in (image_shape, published_shape)
    )
    position, tokens = _take_position_and_tokens(
      left, options, published=published_grid, wanted=grid, origin=origin
    )
    params[_OURS_POSITION], words = resample_position(position, grid)
    resampled += words
    if tokens is not None:
      params[_OURS_TOKENS] = tokens
  for entry in _ENTRIES[network](options):
    if entry.theirs in left:
      flat[entry.collection][entry.ours] = _to_ours(
        entry, left.pop(entry.theirs), origin
      )
    elif entry.ours == _MAY_LACK and options.get('pre_norm'):
      lacking.append(entry.ours)
    elif not params_lib.is_head(entry.ours):
      missing.append(entry.theirs)
  if missing or left:
    raise errors.InputError(
      f'{origin} holds other weights than config.model.name={network!r} with'
      f' {_words(options)}: {_few(missing)} missing, {_few(left)} left over.'
    )
  if network in _FIRST_LAYER:
    _complete_first_layer(params, network, lacking, origin)
  trees = {name: params_lib.unflatten(of, sep='/') for name, of in flat.items()}
  return Taken(
    **trees,
    num_taken=num_taken,
    resampled=resampled,
    lacking=lacking,
  )


def _to_ours(entry, array, origin):
  try:
    return np.asarray(entry.form.to_ours(array), np.float32)
  except (ValueError, IndexError) as e:
    raise errors.InputError(
      f'{origin}: {entry.theirs} has the shape {array.shape}, which'
      f' {entry.ours} cannot be made of: {e}'
    ) from e


def _complete_first_layer(params, network, lacking, origin):
  """Gives it the bias that it may lack; InputError where one does not fit."""
  first = _FIRST_LAYER[network]
  width = params[f'{first}/kernel'].shape[1:]
  if f'{first}/bias' in lacking:
    params[f'{first}/bias'] = np.zeros(width, np.float32)
  bias = params[f'{first}/bias'].shape
  if bias != width:
    raise errors.InputError(
      f'{origin}: {first}/bias has the shape {bias}, expected {width}.'
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


def _take_position_and_tokens(left, options, *, published, wanted, origin):
  """[rows, columns, C] and [tokens, C] or None; takes them out of `left`.

  Their patches are of the grid that was published, where it is known. Else they
  are of the one that is wanted, as after an export of ours, or of a square; of
  a square where both have as many.
  """
  if _POSITION not in left:
    raise errors.InputError(f'{origin} has no {_POSITION}: is it a ViT?')
  position = _take_rows(left, _POSITION, origin)
  names = [_CLASS_TOKEN] * (options['pool'] == 'token')
  names += [_REGISTERS] * (options['num_registers'] > 0)
  lacking = [name for name in names if name not in left]
  if lacking:
    raise errors.InputError(
      f'{origin} has no {" and no ".join(lacking)}, which'
      f' {_words(options)} asks for.'
    )
  tokens = [
    _take_rows(left, name, origin, width=position.shape[-1]) for name in names
  ]
  tokens = np.concatenate(tokens) if tokens else None
  num_tokens = 0 if tokens is None else len(tokens)

  # Some give the tokens, or the class token alone, a position too, which is
  # the same as other tokens.
  wanted = _square(math.prod(wanted)) or wanted
  for grid in (published or wanted, wanted, None):
    for placed in sorted({0, num_tokens, int(options['pool'] == 'token')}):
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


def _square(places: int) -> tuple[int, int] | None:
  side = math.isqrt(max(places, 0))
  return (side, side) if side and side**2 == places else None


def resample_position(
  position: np.ndarray, grid: tuple[int, int]
) -> tuple[np.ndarray, list[str]]:
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


def sees_no_padding(network: str) -> bool:
  """Whether a network's first layer can take other pixels up; `with_pixels`."""
  return network in _FIRST_LAYER


def with_pixels(
  params: Mapping[str, Any],
  *,
  network: str,
  patch: int,
  mean: Sequence[float],
  std: Sequence[float],
  pixel_mean: float,
  pixel_scale: float,
) -> dict[str, Any]:
  """The same function of other pixels: the first layer takes it up, exactly.

  The weights were trained on (v / 255 - mean) / std, a mean and a std for each
  colour; we give (v - pixel_mean) / pixel_scale. The first layer is linear, and
  sees no padding.

  Args:
    params: of `to_variables`.
    network: one of those that `sees_no_padding`.
    patch: side of the first layer's patches, in pixels.
    mean: of each colour.
    std: of each colour.
    pixel_mean: of the config.
    pixel_scale: of the config.

  Returns:
    The parameters, with another first layer.
  """
  first = _FIRST_LAYER[network]
  flat = params_lib.flatten(params, sep='/')
  mean, std = np.asarray(mean, float), np.asarray(std, float)
  # Theirs is ours times the one, plus the other.
  factor = np.tile(pixel_scale / (255 * std), patch * patch)
  shift = np.tile((pixel_mean / 255 - mean) / std, patch * patch)
  kernel = np.asarray(flat[f'{first}/kernel'], float)
  flat[f'{first}/kernel'] = np.float32(kernel * factor[:, None])
  flat[f'{first}/bias'] = np.float32(flat[f'{first}/bias'] + shift @ kernel)
  return params_lib.unflatten(flat, sep='/')


def from_variables(
  variables: Mapping[str, Any],
  *,
  network: str,
  options: Mapping[str, Any],
  places_tokens: bool = True,
) -> Arrays:
  """The variables of a network of ours, as timm has them.

  A BatchNorm before the head, which timm's networks lack, is taken up by the
  head, and a bias of the patches of a network with `pre_norm` by the positions,
  both exactly.

  Args:
    variables: {'params'} and, where it has BatchNorm, 'batch_stats'; trees.
    network: one of NETWORKS.
    options: of the network, `config.model.NETWORK`.
    places_tokens: whether timm's network has a position for its tokens, as all
      have that do not say `no_embed_class`; that of ours is 0.

  Returns:
    float32 arrays by timm's names.
  """
  collections = {
    name: params_lib.flatten(tree, sep='/') for name, tree in variables.items()
  }
  if options.get('feature_norm'):
    collections['params'] = _with_norm_in_head(collections)
  arrays = {}
  bias_in_position = network == 'vit' and options['pre_norm']
  for entry in _ENTRIES[network](options):
    if bias_in_position and entry.ours == _MAY_LACK:
      continue
    array = np.asarray(collections[entry.collection][entry.ours], np.float32)
    arrays[entry.theirs] = np.ascontiguousarray(entry.form.to_theirs(array))
  flat = collections['params']
  if network == 'vit':
    position = np.asarray(flat[_OURS_POSITION], np.float32)
    if bias_in_position:
      position = position + np.asarray(flat[_MAY_LACK], np.float32)
    position = position.reshape(1, -1, position.shape[-1])
    if _OURS_TOKENS in flat:
      tokens = np.asarray(flat[_OURS_TOKENS], np.float32)[None]
      if options['pool'] == 'token':
        arrays[_CLASS_TOKEN], tokens = tokens[:, :1], tokens[:, 1:]
      if tokens.size:
        arrays[_REGISTERS] = tokens
      if places_tokens:
        nothing = np.zeros_like(flat[_OURS_TOKENS])[None]
        position = np.concatenate([nothing, position], axis=1)
    arrays[_POSITION] = position
  return arrays


def _with_norm_in_head(collections):
  """The parameters with a head that normalises by itself."""
  norm = {
    name: np.asarray(collections[collection][f'head_norm/{name}'], float)
    for collection, name in (
      ('params', 'scale'),
      ('params', 'bias'),
      ('batch_stats', 'mean'),
      ('batch_stats', 'var'),
    )
  }
  factor = norm['scale'] / np.sqrt(norm['var'] + batch_norm.EPSILON)
  shift = norm['bias'] - norm['mean'] * factor
  params = dict(collections['params'])
  kernel = np.asarray(params['head/kernel'], float)
  params['head/kernel'] = np.float32(factor[:, None] * kernel)
  params['head/bias'] = np.float32(params['head/bias'] + shift @ kernel)
  return params


def _words(options: Mapping[str, Any]) -> str:
  return ', '.join(f'{key}={value!r}' for key, value in options.items())


def _few(names: Sequence[str] | Mapping[str, Any]) -> str:
  names = list(names)
  shown = ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
  return f'{len(names)} ({shown})' if names else 'none'
