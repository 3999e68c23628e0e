"""Random augmentation of training batches on the device.

The key of each example is folded from its index in the global batch, so the
augmentation does not depend on how the batch is split over devices.
"""

import jax
import jax.numpy as jnp
import ml_collections

from genre_flax.ops import ops
from genre_flax.runtime import custom

# Luma of red, green and blue (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


def augment(
  images: jax.Array,
  labels: jax.Array,
  *,
  key: jax.Array,
  index: jax.Array,
  config: ml_collections.ConfigDict,
) -> tuple[jax.Array, jax.Array]:
  """Augments each poster at random, and its labels with mixup.

  Args:
    images: uint8 [B, H, W, 3].
    labels: float32 [B, num_genres] of 0 and 1.
    key: random key of the step.
    index: int32 [B], the examples' positions in the global batch. For mixup,
      positions 2 i and 2 i + 1 must be adjacent, the even one first.
    config: `config.augment`.

  A custom `config.transform` is a function of images, float32 [B, H, W, 3],
  labels, and keys [B], one per example; it returns images and labels.

  Returns:
    Images [B, H, W, 3] with values in [0, 255], float32 (unchanged if the
    config enables nothing), and labels.
  """
  keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(index)
  geometry, color, erasing, blend = (
    jax.vmap(lambda k, number=number: jax.random.fold_in(k, number))(keys)
    for number in range(4)
  )
  if (
    config.crop_scale < 1
    or config.translation > 0
    or config.horizontal_flip > 0
  ):
    images = _crop(images, _uniform(geometry, 5), config)
  if config.brightness > 0 or config.contrast > 0 or config.saturation > 0:
    images = _change_color(images, _uniform(color, 3), config)
  if config.random_erasing > 0:
    images = _erase(images, _uniform(erasing, 5), config)
  if config.mixup_alpha > 0:
    images, labels = _mix_up(images, labels, blend, config)
  if config.transform:
    images, labels = custom.call(
      config.transform,
      key='augment.transform',
      options=config.transform_options,
      images=images.astype(jnp.float32),
      labels=labels,
      keys=jax.vmap(lambda k: jax.random.fold_in(k, 4))(keys),
    )
  return images, labels


def _uniform(keys, number):
  """[B, number] samples from [0, 1)."""
  return jax.vmap(lambda key: jax.random.uniform(key, (number,)))(keys)


def _crop(images, samples, config):
  """Random crop, translation and horizontal flip of each image."""
  height, width = images.shape[1:3]
  is_flipped = samples[:, 4] < config.horizontal_flip

  def sampling_matrix(size, scale_sample, offset_sample):
    scale = 1 - (1 - config.crop_scale) * scale_sample
    slack = (1 - scale) + 2 * config.translation
    start = slack * offset_sample - config.translation
    return ops.sampling_matrix(size, start, scale)

  rows = sampling_matrix(height, samples[:, 0], samples[:, 1])
  columns = sampling_matrix(width, samples[:, 2], samples[:, 3])
  columns = jnp.where(is_flipped[:, None, None], columns[:, ::-1], columns)
  return ops.resample(images, rows, columns)


def _change_color(images, samples, config):
  """Brightness, contrast about the mean, saturation about the luma."""
  images = images.astype(jnp.float32)
  factors = 2 * samples[:, :, None, None, None] - 1  # [B, 3, 1, 1, 1], +-1.
  images = images * (1 + config.brightness * factors[:, 0])
  mean = images.mean(axis=(1, 2, 3), keepdims=True)
  images = mean + (images - mean) * (1 + config.contrast * factors[:, 1])
  if config.saturation > 0:
    gray = (images * jnp.array(_LUMA)).sum(axis=-1, keepdims=True)
    images = gray + (images - gray) * (1 + config.saturation * factors[:, 2])
  return jnp.clip(images, 0, 255)


def _erase(images, samples, config):
  """Random erasing (Zhong et al., 2020): one rectangle becomes mid-gray.

  Its sides are 0.15 to 0.5 times those of the image.
  """

  def span(size, extent_sample, start_sample):
    extent = size * (0.15 + 0.35 * extent_sample)
    start = (size - extent) * start_sample
    centers = jnp.arange(size) + 0.5
    return (centers >= start[:, None]) & (centers < (start + extent)[:, None])

  is_erased = samples[:, 4] < config.random_erasing
  rows = span(images.shape[1], samples[:, 0], samples[:, 1])
  columns = span(images.shape[2], samples[:, 2], samples[:, 3])
  inside = rows[:, :, None] & columns[:, None, :] & is_erased[:, None, None]
  return jnp.where(inside[..., None], 127.5, images.astype(jnp.float32))


def _mix_up(images, labels, keys, config):
  """Mixup (Zhang et al., 2018) of examples 2 i and 2 i + 1 with each other.

  The key of the even example gives the weight, from Beta(alpha, alpha). Both
  examples keep that share of themselves, so a pair gives two different blends.
  """
  if images.shape[0] % 2:
    raise ValueError(
      'Mixup needs an even number of examples per device and step, got'
      f' {images.shape[0]}.'
    )
  alpha = config.mixup_alpha
  weight = jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys[::2])

  def blend(x):
    pairs = x.astype(jnp.float32).reshape(-1, 2, *x.shape[1:])
    own = weight.reshape(-1, *(1,) * x.ndim)
    return (own * pairs + (1 - own) * pairs[:, ::-1]).reshape(x.shape)

  return blend(images), blend(labels)
