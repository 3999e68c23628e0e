"""What a network sees in a poster, as numbers to compare posters by."""

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import single_device
from genre_flax.models import forward
from genre_flax.models import layers
from genre_flax.runtime import errors


class Embedder:
  """Makes the features of posters: alike where the network sees the like.

  Runs on one device of this process.
  """

  def __init__(self, predictor: predictor_lib.Predictor):
    """Prepares the network.

    Args:
      predictor: of `predictor_lib.restore`.

    Raises:
      InputError: the network has no method `embed`, and marks no feature
        map.
    """
    model = predictor_lib.make_model(predictor)
    config = predictor.config
    height, width = predictor.image_shape
    blank = jax.ShapeDtypeStruct((1, height, width, 3), jnp.uint8)
    self._network = single_device.OneDevice(predictor)

    def embed(variables, images):
      if hasattr(model, 'embed'):
        return forward.forward(
          model, variables, images, predictor.preprocessing, method='embed'
        )
      _, seen = forward.forward(
        model,
        variables,
        images,
        predictor.preprocessing,
        mutable=[layers.FEATURE_MAPS],
      )
      [feature_map] = jax.tree.leaves(seen)
      return feature_map.mean(axis=(1, 2))

    try:
      made = jax.eval_shape(embed, self._network.variables, blank)
      if made.ndim != 2 or made.shape[0] != 1:
        raise ValueError(f'its features of one poster are {made.shape}')
    except Exception as e:  # A network of one's own raises what it likes.
      raise errors.InputError(
        f'The network {config.model.name!r} gives no features to compare'
        ' posters by: it has no method `embed` that maps images to [B, F],'
        f' and marks no feature map by layers.feature_map ({e}).'
      ) from e
    self.num_features = made.shape[1]
    self._features = jax.jit(embed)

  def embed(self, images: np.ndarray) -> np.ndarray:
    """Makes the features of posters.

    Args:
      images: uint8 [N, H, W, 3], of the network's input size; all calls with
        one N share a program.

    Returns:
      float32 [N, num_features].
    """
    return np.asarray(self._network.run(self._features, images), np.float32)
