"""Windows of images by linear interpolation, as matrix products.

A window is separable: one matrix resamples the rows, another the columns. As
batched matrix products they run at full speed on every platform.
"""

import jax
import jax.numpy as jnp


def resample(
  images: jax.Array, rows: jax.Array, columns: jax.Array
) -> jax.Array:
  """Resamples images by matrices of `sampling_matrix`.

  Args:
    images: [B, H, W, C].
    rows: [B, H_out, H].
    columns: [B, W_out, W].

  Returns:
    float32 [B, H_out, W_out, C].
  """
  images = jnp.einsum('boh,bhwc->bowc', rows, images.astype(jnp.float32))
  return jnp.einsum('bpw,bowc->bopc', columns, images)


def sampling_matrix(size: int, start: jax.Array, scale: jax.Array) -> jax.Array:
  """Weights of the input pixels in each output pixel of a window.

  Positions outside the image repeat its border.

  Args:
    size: of the input and of the output, in pixels.
    start: [B], start of the window as a share of `size`.
    scale: [B], length of the window as a share of `size`.

  Returns:
    float32 [B, size, size], one row per output pixel.
  """
  centers = jnp.arange(size) + 0.5
  positions = size * start[:, None] + scale[:, None] * centers - 0.5
  positions = jnp.clip(positions, 0, size - 1)
  distance = jnp.abs(positions[:, :, None] - jnp.arange(size))
  return jnp.maximum(0.0, 1 - distance)


def central_crop(images: jax.Array, share: jax.Array | float) -> jax.Array:
  """Crops the centers of images and scales them to the input size.

  Args:
    images: [B, H, W, C].
    share: of height and of width that is kept, (0, 1].

  Returns:
    float32 [B, H, W, C].
  """
  share = jnp.asarray(share, jnp.float32)[None]
  rows, columns = (
    sampling_matrix(size, (1 - share) / 2, share)[0]
    for size in images.shape[1:3]
  )
  # One matrix for all images: not batched, which is faster.
  images = jnp.einsum('oh,bhwc->bowc', rows, images.astype(jnp.float32))
  return jnp.einsum('pw,bowc->bopc', columns, images)
