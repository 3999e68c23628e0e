"""Resampling of windows of images by linear interpolation.

The interpolation is separable: one matrix resamples the rows, another one the
columns. Matrix products are fast on every platform.
"""

import jax
import jax.numpy as jnp


def resample(
  images: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
  """Resamples the rows and columns of images.

  Args:
    images: [B, H, W, C].
    rows: [B, H_out, H], a `sampling_matrix`.
    columns: [B, W_out, W], a `sampling_matrix`.

  Returns:
    float32 [B, H_out, W_out, C].
  """
  images = jnp.einsum('boh,bhwc->bowc', rows, images.astype(jnp.float32))
  return jnp.einsum('bpw,bowc->bopc', columns, images)


def sampling_matrix(size: int, start: jax.Array, scale: jax.Array) -> jax.Array:
  """Weights of the input pixels for each output pixel of a window.

  Positions outside the image repeat its border.

  Args:
    size: of the input and of the output, in pixels.
    start: [B], start of the window as a fraction of `size`.
    scale: [B], length of the window as a fraction of `size`.

  Returns:
    float32 [B, size, size], one row per output pixel.
  """
  centers = jnp.arange(size) + 0.5
  positions = size * start[:, None] + scale[:, None] * centers - 0.5
  positions = jnp.clip(positions, 0, size - 1)
  distance = jnp.abs(positions[:, :, None] - jnp.arange(size))
  return jnp.maximum(0.0, 1 - distance)


def central_crop(images: jax.Array, fraction: jax.Array | float) -> jax.Array:
  """Crops the centers of images and resizes them to the input size.

  Args:
    images: [B, H, W, C].
    fraction: of height and width that is kept, in (0, 1].

  Returns:
    float32 [B, H, W, C].
  """
  fraction = jnp.asarray(fraction, jnp.float32)[None]
  rows, columns = (
    sampling_matrix(size, (1 - fraction) / 2, fraction)[0]
    for size in images.shape[1:3]
  )
  # One matrix for all images is faster than a batch of equal ones.
  images = jnp.einsum('oh,bhwc->bowc', rows, images.astype(jnp.float32))
  return jnp.einsum('pw,bowc->bopc', columns, images)
