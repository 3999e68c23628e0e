"""The forward function, from pixels to the output of a network.

Training, evaluation, export, attribution and retrieval share these functions,
and therefore the preprocessing.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from genre_flax import config as config_lib
from genre_flax.models import side_inputs
from genre_flax.ops import ops
from genre_flax.runtime import target

# On CPU, images are evaluated in chunks of about this many pixels. Larger
# activations do not fit the caches, and take more memory than training.
_CHUNK_PIXELS = 1 << 20


def forward(
  model: nn.Module,
  variables: dict[str, Any],
  images: jax.Array,
  preprocessing: config_lib.Preprocessing,
  *,
  train: bool = False,
  method: str = '__call__',
  **options: Any,
) -> Any:
  """Normalizes images and applies a network to them.

  Args:
    model: a network of `registry.create_model`.
    variables: of the network.
    images: uint8 or float32 [B, H, W, 3] in [0, 255].
    preprocessing: of the network.
    train: whether to use dropout and batch statistics.
    method: of the network: '__call__' for logits, 'embed' for embeddings.
    **options: of `model.apply`, such as `rngs` and `mutable`, and further
      inputs of the method, of `side_inputs`.

  Returns:
    The output of `model.apply`: logits float32 [B, num_genres] or embeddings
    [B, F], with the changed variables where `mutable` is given.
  """
  images = preprocessing.normalize(images)
  return model.apply(variables, images, train=train, method=method, **options)


def forward_inputs(
  model: nn.Module,
  variables: dict[str, Any],
  inputs: dict[str, jax.Array],
  preprocessing: config_lib.Preprocessing,
  **options: Any,
) -> Any:
  """`forward` of the inputs of a batch: 'image', or cached 'features'.

  Other inputs are passed as well, see `side_inputs`.
  """
  method = 'classify' if 'features' in inputs else '__call__'
  if len(inputs) > 1:
    options |= side_inputs.extra_inputs(model, inputs, method)
  if 'features' in inputs:
    return model.apply(variables, inputs['features'], method=method, **options)
  return forward(model, variables, inputs['image'], preprocessing, **options)


def forward_in_chunks(
  model: nn.Module,
  variables: dict[str, Any],
  images: jax.Array,
  preprocessing: config_lib.Preprocessing,
  *,
  method: str = '__call__',
  **extra: jax.Array,
) -> jax.Array:
  """`forward` for inference; on CPU, in chunks of the batch."""

  def apply(chunk):
    images, extra = chunk
    return forward(
      model, variables, images, preprocessing, method=method, **extra
    )

  whole = images, extra
  if target.platform() != 'cpu':
    return apply(whole)
  size = _chunk_size(images.shape)
  if size == len(images):
    return apply(whole)
  chunks = jax.lax.map(
    apply, jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), whole)
  )
  return chunks.reshape(len(images), *chunks.shape[2:])


def predict_logits(
  model: nn.Module,
  variables: dict[str, Any],
  images: jax.Array,
  preprocessing: config_lib.Preprocessing,
  **extra: jax.Array,
) -> jax.Array:
  """Logits with test-time augmentation, averaged over central crops.

  Args:
    model: a network of `registry.create_model`.
    variables: of the network.
    images: uint8 [B, H, W, 3].
    preprocessing: of the network; its `eval_crops` are the fractions of height
      and width that the crops keep.
    **extra: further inputs of the network, of `side_inputs`.

  Returns:
    float32 [B, num_genres].
  """

  def logits_of(images):
    return forward_in_chunks(model, variables, images, preprocessing, **extra)

  def crop_logits(fraction):
    return logits_of(ops.central_crop(images, fraction))

  if preprocessing.eval_crops == (1.0,):
    return logits_of(images)
  if target.platform() == target.PORTABLE:
    # Unrolled: exported graphs contain no loops, and no resampling by 1.
    logits = [
      crop_logits(fraction) if fraction != 1 else logits_of(images)
      for fraction in preprocessing.eval_crops
    ]
    return sum(logits) / len(logits)
  # In sequence, since all crops at once would multiply the memory.
  fractions = jnp.asarray(preprocessing.eval_crops, jnp.float32)
  return jax.lax.map(crop_logits, fractions).mean(axis=0)


def _chunk_size(shape: tuple[int, ...]) -> int:
  """Images per chunk of [B, H, W, 3]: about a megapixel, or all of them."""
  batch, height, width, _ = shape
  limit = max(1, _CHUNK_PIXELS // (height * width))
  if batch <= limit:
    return batch
  largest = max(n for n in range(1, limit + 1) if batch % n == 0)
  return largest if 2 * largest > limit else batch
