"""A network applied to images, in parts where that is better."""

from typing import Any

import flax.linen as nn
import jax

from genre_flax.data import augment
from genre_flax.runtime import target

# That a CPU looks at at once. What a network makes of more leaves the caches,
# and takes more memory than training, which goes through its batches in parts
# too.
_PART_PIXELS = 1 << 20


def apply_to_images(
  model: nn.Module,
  variables: dict[str, Any],
  images: jax.Array,
  *,
  pixel_mean: float,
  pixel_scale: float,
  method: str = '__call__',
) -> jax.Array:
  """What a network gives for images; on CPU, for a part of them at a time.

  Args:
    model: of `registry.create_model`.
    variables: of the network.
    images: uint8 [B, H, W, 3].
    pixel_mean: of the preprocessing.
    pixel_scale: of the preprocessing.
    method: of the network: '__call__' or 'features'.

  Returns:
    float32 [B, num_genres], or [B, F] of features.
  """

  def apply(part):
    normalized = augment.normalize(
      part, pixel_mean=pixel_mean, pixel_scale=pixel_scale
    )
    return model.apply(variables, normalized, train=False, method=method)

  size = len(images)
  if target.platform() == 'cpu':
    size = _part_size_on_cpu(images.shape)
  if size == len(images):
    return apply(images)
  parts = jax.lax.map(apply, images.reshape(-1, size, *images.shape[1:]))
  return parts.reshape(len(images), *parts.shape[2:])


def _part_size_on_cpu(shape: tuple[int, ...]) -> int:
  """How many of [B, H, W, 3] to look at at once: near a megapixel, or all."""
  batch, height, width, _ = shape
  at_most = max(1, _PART_PIXELS // (height * width))
  if batch <= at_most:
    return batch
  largest = max(n for n in range(1, at_most + 1) if batch % n == 0)
  return largest if 2 * largest > at_most else batch
