"""Conversion between timm's weights and the variables of a network."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np

from genre_flax.models import normalization
from genre_flax.models import params as params_lib
from genre_flax.pretrained import timm_names
from genre_flax.pretrained import vit_positions
from genre_flax.runtime import errors
from genre_flax.runtime import text

_ENTRIES = {
  'convnext': timm_names.convnext_entries,
  'efficientnet_lite': timm_names.efficientnet_lite_entries,
  'vit': timm_names.vit_entries,
}
# Counters of PyTorch's BatchNorm, which affect no output.
_COUNTERS = '.num_batches_tracked'
# CLIP has no bias here.
_OPTIONAL = 'backbone/embed/dense/bias'


@dataclasses.dataclass(frozen=True)
class ConversionResult:
  """Arrays converted, ignored and missing.

  Attributes:
    params: a tree, float32; without a head if the weights have none.
    batch_stats: the statistics of BatchNorm; a tree, float32.
    num_converted: number of timm's arrays in the trees.
    ignored: timm's names of arrays that affect no output.
    missing: paths of parameters without an array, which are 0.
    resampled: descriptions of resampled parameters.
  """

  params: dict[str, Any]
  batch_stats: dict[str, Any]
  num_converted: int
  ignored: Sequence[str]
  missing: Sequence[str]
  resampled: Sequence[str]


def to_variables(
  arrays: Mapping[str, np.ndarray],
  *,
  network: str,
  options: Mapping[str, Any],
  image_shape: tuple[int, int],
  origin: str,
  published_shape: tuple[int, int] | None = None,
) -> ConversionResult:
  """Converts timm's arrays to the variables of a network.

  `published_shape` is that of the input the arrays were trained with; None if
  unknown. Shapes are (height, width) in pixels.

  Raises:
    InputError: arrays are missing or left over, or have other shapes than the
      network's.
  """
  left = {name: np.asarray(array) for name, array in arrays.items()}
  ignored = [name for name in left if name.endswith(_COUNTERS)]
  for name in ignored:
    del left[name]
  num_converted = len(left)
  flat = {'params': {}, 'batch_stats': {}}
  params, resampled, missing, unset = flat['params'], [], [], []
  if network == 'vit':
    positions, resampled = vit_positions.pop_params(
      left,
      options=options,
      image_shape=image_shape,
      published_shape=published_shape,
      origin=origin,
    )
    params |= positions
  for entry in _ENTRIES[network](options):
    if entry.timm_name in left:
      array = left.pop(entry.timm_name)
      flat[entry.collection][entry.path] = _convert(entry, array, origin)
    elif entry.path == _OPTIONAL and options['pre_norm']:
      unset.append(entry.path)
    elif not params_lib.is_head(entry.path):
      missing.append(entry.timm_name)
  if missing or left:
    described = ', '.join(f'{key}={value!r}' for key, value in options.items())
    missing, extra = (
      text.join_first(list(names), limit=3) or 'none'
      for names in (missing, left)
    )
    raise errors.InputError(
      f'{origin} does not fit config.model.name={network!r} with {described};'
      f' missing: {missing}; left over: {extra}.'
    )
  for path in unset:
    kernel = params[path.replace('bias', 'kernel')]
    params[path] = np.zeros(kernel.shape[1:], np.float32)
  return ConversionResult(
    **{key: params_lib.unflatten(tree, sep='/') for key, tree in flat.items()},
    num_converted=num_converted,
    ignored=ignored,
    missing=unset,
    resampled=resampled,
  )


def _convert(
  entry: timm_names.Entry, array: np.ndarray, origin: str
) -> np.ndarray:
  try:
    return np.asarray(entry.layout.from_torch(array), np.float32)
  except (ValueError, IndexError) as e:
    raise errors.InputError(
      f'{origin}: {entry.timm_name} has the shape {array.shape}, which does not'
      f' fit {entry.path}: {e}'
    ) from e


def from_variables(
  variables: Mapping[str, Any],
  *,
  network: str,
  options: Mapping[str, Any],
) -> timm_names.Arrays:
  """Converts the variables of a network to timm's arrays.

  Two layers that timm's networks lack are merged into others exactly: a
  BatchNorm before the head into the head, and the patches' bias in a network
  with `pre_norm` into the positions.

  Returns:
    float32 arrays by timm's names, for a network with `no_embed_class`.
  """
  collections = {
    name: params_lib.flatten(tree, sep='/') for name, tree in variables.items()
  }
  if options.get('feature_norm'):
    collections['params'] = _merge_norm_into_head(collections)
  params, arrays = collections['params'], {}
  merges_bias = network == 'vit' and options['pre_norm']
  for entry in _ENTRIES[network](options):
    if not (merges_bias and entry.path == _OPTIONAL):
      array = np.asarray(collections[entry.collection][entry.path], np.float32)
      arrays[entry.timm_name] = np.ascontiguousarray(
        entry.layout.to_torch(array)
      )
  if network == 'vit':
    arrays |= vit_positions.to_timm(
      params,
      pool=options['pool'],
      bias=params[_OPTIONAL] if merges_bias else 0,
    )
  return arrays


def _merge_norm_into_head(
  collections: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
  """Flat parameters with a head that includes `head_norm`."""
  params = dict(collections['params'])
  values = params | collections['batch_stats']
  scale, offset, mean, variance = (
    np.asarray(values[f'head_norm/{leaf}'], float)
    for leaf in ('scale', 'bias', 'mean', 'var')
  )
  factor = scale / np.sqrt(variance + normalization.EPSILON)
  kernel = np.asarray(params['head/kernel'], float)
  params['head/kernel'] = np.float32(factor[:, None] * kernel)
  params['head/bias'] = np.float32(
    params['head/bias'] + (offset - mean * factor) @ kernel
  )
  return params
