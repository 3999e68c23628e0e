"""Augmentation of a batch on the device, and normalisation.

Every example has a key of its own, folded from its place in the global batch,
so what is drawn does not depend on how the batch is spread over devices.
"""

import jax
import jax.numpy as jnp
import ml_collections


def normalize(
  images: jax.Array, *, pixel_mean: float, pixel_scale: float
) -> jax.Array:
  """Maps pixels from [0, 255] to the network's range.

  Args:
    images: [B, H, W, 3], uint8 or float32.
    pixel_mean: subtracted first.
    pixel_scale: divided by.

  Returns:
    float32 [B, H, W, 3].
  """
  return (images.astype(jnp.float32) - pixel_mean) / pixel_scale


def augment(
  images: jax.Array,
  *,
  key: jax.Array,
  index: jax.Array,
  config: ml_collections.ConfigDict,
) -> jax.Array:
  """Crops, shifts, mirrors, brightens and contrasts each poster at random.

  Args:
    images: uint8 [B, H, W, 3].
    key: of the step.
    index: int32 [B], the examples' places in the global batch.
    config: `config.augment`.

  Returns:
    [B, H, W, 3] with values in [0, 255]: float32, or the images themselves
    where the config asks for nothing.
  """
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
  draws = jax.vmap(lambda k: jax.random.uniform(k, (7,)))(keys)
  if config.crop_scale < 1 or config.shift > 0 or config.mirror > 0:
    images = _crop(images, draws[:, :5], config)
  if config.brightness > 0 or config.contrast > 0:
    images = _change_color(images, draws[:, 5:], config)
  return images


def _crop(images, draws, config):
  """Samples a random window of each image, by linear interpolation.

  A window is separable: one matrix takes the rows, another the columns. As
  batched matrix products these run at full speed on every platform.
  """
  height, width = images.shape[1:3]
  mirror = draws[:, 4] < config.mirror
  rows = _sampling_matrix(height, draws[:, 0], draws[:, 1], config)
  columns = _sampling_matrix(width, draws[:, 2], draws[:, 3], config)
  columns = jnp.where(mirror[:, None, None], columns[:, ::-1], columns)
  images = jnp.einsum('boh,bhwc->bowc', rows, images.astype(jnp.float32))
  return jnp.einsum('bpw,bowc->bopc', columns, images)


def _sampling_matrix(size, scale_draw, offset_draw, config):
  """[B, size, size]: row o has the weights of the pixels that o is made of."""
  scale = 1 - (1 - config.crop_scale) * scale_draw
  slack = (1 - scale) + 2 * config.shift
  start = size * (slack * offset_draw - config.shift)
  centers = jnp.arange(size) + 0.5
  positions = start[:, None] + scale[:, None] * centers - 0.5
  positions = jnp.clip(positions, 0, size - 1)  # Repeats the border.
  distance = jnp.abs(positions[:, :, None] - jnp.arange(size))
  return jnp.maximum(0.0, 1 - distance)


def _change_color(images, draws, config):
  images = images.astype(jnp.float32)
  factors = 2 * draws[:, :, None, None, None] - 1  # [B, 2, 1, 1, 1], +-1.
  images = images * (1 + config.brightness * factors[:, 0])
  mean = images.mean(axis=(1, 2, 3), keepdims=True)
  images = mean + (images - mean) * (1 + config.contrast * factors[:, 1])
  return jnp.clip(images, 0, 255)
