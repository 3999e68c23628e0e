"""The exported function: from pixels to calibrated scores."""

from collections.abc import Callable

import jax
from jax import export
import jax.numpy as jnp

from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import forward
from genre_flax.runtime import target
from genre_flax.training import objectives

INPUT = 'images'
# In the order of the function's results.
OUTPUTS = ('scores', 'logits')

# Maps uint8 [N, H, W, 3] to scores and logits, float32 [N, num_genres].
PredictionFunction = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def make(predictor: predictor_lib.Predictor) -> PredictionFunction:
  """The predictions of a network as a function of the images alone.

  The function computes in float32, by the reference implementation of each
  operation, on every platform.

  Returns:
    Maps uint8 [N, H, W, 3] to scores and logits, float32 [N, num_genres]. The
    scores are calibrated probabilities. The logits are their log-odds, which
    still differ where scores are equal in float32, close to 1.
  """
  model = predictor_lib.make_model(predictor.in_float32())
  variables = jax.device_get(predictor.variables)
  logits_fn = objectives.logits_fn(
    predictor.config, label_prior=predictor.label_prior
  )

  def predict(images):
    with target.traced_for(target.PORTABLE):
      logits = forward.predict_logits(
        model, variables, images, predictor.preprocessing
      )
      if logits_fn is not None:
        logits = logits_fn(logits)
    logits = predictor.calibration.to_logits(logits, jnp)
    return jax.nn.sigmoid(logits), logits

  return predict


def images_spec(predictor: predictor_lib.Predictor) -> jax.ShapeDtypeStruct:
  """The argument of the function: uint8 [batch, H, W, 3], batch symbolic."""
  height, width = predictor.image_shape
  return jax.ShapeDtypeStruct(
    export.symbolic_shape(f'batch, {height}, {width}, 3'), jnp.uint8
  )
