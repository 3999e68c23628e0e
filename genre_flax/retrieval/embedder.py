"""Embeddings of posters."""

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import forward
from genre_flax.models import layers
from genre_flax.runtime import errors


class Embedder:
  """Computes embeddings of posters on one device of this process.

  The embedding is the output of the method `embed` of the network; of a network
  without that method, the spatial mean of its last feature map.
  """

  def __init__(self, predictor: predictor_lib.Predictor):
    """Prepares the network.

    Raises:
      InputError: the network has no method `embed` and marks no feature map.
    """
    model = predictor_lib.make_model(predictor)
    preprocessing = predictor.preprocessing
    images = jax.ShapeDtypeStruct((1, *predictor.image_shape, 3), jnp.uint8)
    self._device = predictor_lib.OneDevice(predictor)

    def embed(variables, images):
      if hasattr(model, 'embed'):
        return forward.forward(
          model, variables, images, preprocessing, method='embed'
        )
      _, sown = forward.forward(
        model, variables, images, preprocessing, mutable=[layers.FEATURE_MAPS]
      )
      [feature_map] = jax.tree.leaves(sown)
      return feature_map.mean(axis=(1, 2))

    try:
      output = jax.eval_shape(embed, self._device.variables, images)
      if output.ndim != 2 or output.shape[0] != 1:
        raise ValueError(f'the embedding of one poster is {output.shape}')
    except Exception as e:  # A custom network may raise anything.
      raise errors.InputError(
        f'The network {predictor.config.model.name!r} has no embeddings: it has'
        ' no method `embed` from images to [B, F] and marks no feature map by'
        f' layers.feature_map ({e}).'
      ) from e
    self.num_features = output.shape[1]
    self._embed = jax.jit(embed)

  def embed(self, images: np.ndarray) -> np.ndarray:
    """Computes embeddings.

    Args:
      images: uint8 [N, H, W, 3] of the input size of the network; compiled once
        for each N.

    Returns:
      float32 [N, num_features].
    """
    return np.asarray(self._device.run(self._embed, images), np.float32)
