"""Weights of timm's networks as variables of ours, and back."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from genre_flax.models import batch_norm
from genre_flax.models import params as params_lib
from genre_flax.pretrained import timm_names
from genre_flax.pretrained import vit_positions
from genre_flax.runtime import errors
from genre_flax.runtime import text

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
    heads: those of them that only serve whoever has the same labels.
    resampled: what was resampled to other sizes, in words.
    lacking: our parameters that it has no array for, and that begin at 0.
  """

  params: dict[str, Any]
  batch_stats: dict[str, Any]
  num_taken: int
  resampled: Sequence[str]
  lacking: Sequence[str]
  heads: Sequence[str]


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
  missing, lacking, heads, resampled = [], [], [], []
  if network == 'vit':
    of_positions, resampled = _take_positions(
      left, options, image_shape, published_shape, origin
    )
    params |= of_positions
  for entry in _ENTRIES[network](options):
    if entry.theirs in left:
      flat[entry.collection][entry.ours] = _to_ours(
        entry, left.pop(entry.theirs), origin
      )
      if params_lib.is_head(entry.ours):
        heads.append(entry.theirs)
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
    heads=heads,
  )


def _take_positions(left, options, image_shape, published_shape, origin):
  """Positions and tokens of a ViT, out of `left`, and what was resampled."""
  grid, published_grid = (
    shape and tuple(side // options['patch'] for side in shape)
    for shape in (image_shape, published_shape)
  )
  position, tokens = vit_positions.take(
    left,
    pool=options['pool'],
    has_registers=options['num_registers'] > 0,
    published=published_grid,
    wanted=grid,
    origin=origin,
  )
  position, resampled = vit_positions.resample(position, grid)
  params = {_OURS_POSITION: position}
  if tokens is not None:
    params[_OURS_TOKENS] = tokens
  return params, resampled


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
    arrays |= vit_positions.to_timm(
      position,
      flat.get(_OURS_TOKENS),
      pool=options['pool'],
      places_tokens=places_tokens,
    )
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
  return text.join_first(list(names), limit=3) or 'none'
