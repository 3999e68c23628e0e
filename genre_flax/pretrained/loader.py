"""Loading published weights as variables of a network."""

from collections.abc import Mapping
from typing import Any

from absl import logging
import numpy as np

from genre_flax import config as config_lib
from genre_flax.models import params as params_lib
from genre_flax.pretrained import sources
from genre_flax.pretrained import timm_weights
from genre_flax.runtime import errors

# First layers that are linear and have no padding.
_PATCH_LAYERS = {
  'vit': 'backbone/embed/dense',
  'convnext': 'backbone/stem/dense',
}


def load(
  source: str,
  *,
  network: str,
  model: Mapping[str, Any],
  preprocessing: config_lib.Preprocessing,
) -> dict[str, Any]:
  """Loads the variables of a published network and logs every change to them.

  Returns:
    {'params', 'batch_stats'}, as NumPy arrays.

  Raises:
    InputError: the weights are not available, damaged, or of another network.
  """
  weights = sources.read(source)
  name = weights.architecture or ''
  if network == 'efficientnet_lite' and name.startswith('efficientnet_lite'):
    raise errors.InputError(
      f"{source} is timm's {name}, which has the parameters of"
      f' config.model.name={network!r}, but another padding and BatchNorm. Use'
      f' timm:tf_{name}.in1k.'
    )
  result = timm_weights.to_variables(
    weights.arrays,
    network=network,
    options=model[network].to_dict(),
    image_shape=preprocessing.image_shape,
    published_shape=weights.image_shape,
    origin=source,
  )
  params, changes = result.params, list(result.resampled)
  changes += [f'{name} is missing and set to 0' for name in result.missing]
  if weights.pixels and network in _PATCH_LAYERS:
    params = _adapt_to_pixels(
      params, _PATCH_LAYERS[network], weights.pixels, preprocessing
    )
    changes.append(
      f'first layer for pixels of mean {preprocessing.pixel_mean} and scale'
      f' {preprocessing.pixel_scale} instead of {weights.pixels.mean} and'
      f' {weights.pixels.std}'
    )
  elif weights.pixels:
    _check_pixels(weights.pixels, preprocessing, source)
  ignored = [*weights.extra_keys, *result.ignored]
  if ignored:
    changes.append(f'{len(ignored)} arrays ignored, such as {ignored[0]}')
  logging.info(
    'Converted %d arrays of %s; %s.',
    result.num_converted,
    source,
    '; '.join(changes) or 'no changes',
  )
  return {'params': params, 'batch_stats': result.batch_stats}


def _adapt_to_pixels(params, layer, pixels, preprocessing) -> dict[str, Any]:
  """Changes the first layer to compute the same from other pixels.

  The weights were trained with (v / 255 - mean) / std, and the new input is
  (v - pixel_mean) / pixel_scale. The layer is linear, so the change is exact.
  """
  flat = params_lib.flatten(params, sep='/')
  kernel, bias = np.asarray(flat[f'{layer}/kernel'], float), f'{layer}/bias'
  if flat[bias].shape != kernel.shape[1:]:
    raise errors.InputError(
      f'{bias} has the shape {flat[bias].shape}, expected {kernel.shape[1:]}.'
    )
  mean, std = np.asarray(pixels, float)
  num_pixels = len(kernel) // 3
  factor = np.tile(preprocessing.pixel_scale / (255 * std), num_pixels)
  shift = np.tile((preprocessing.pixel_mean / 255 - mean) / std, num_pixels)
  flat[f'{layer}/kernel'] = np.float32(kernel * factor[:, None])
  flat[bias] = np.float32(flat[bias] + shift @ kernel)
  return params_lib.unflatten(flat, sep='/')


def _check_pixels(pixels, preprocessing, source) -> None:
  """Warns if the input's normalization differs visibly from the weights'."""
  mean, std = 255 * np.asarray(pixels)
  ours = [preprocessing.pixel_mean] * 3, [preprocessing.pixel_scale] * 3
  if not np.allclose(ours, (mean, std), atol=1):
    logging.warning(
      '%s was trained with pixels of mean %s and scale %s;'
      ' config.pixel_mean=%s and config.pixel_scale=%s differ.',
      source,
      mean.round(1),
      std.round(1),
      preprocessing.pixel_mean,
      preprocessing.pixel_scale,
    )
