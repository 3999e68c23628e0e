"""The function that is handed on: from pixels to calibrated scores."""

from collections.abc import Callable

import jax
from jax import export
import jax.numpy as jnp

from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import forward
from genre_flax.runtime import target

INPUT = 'images'
# In the order of the function's results.
OUTPUTS = ('scores', 'logits')
BATCH = 'batch'

Function = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def make_function(predictor: predictor_lib.Predictor) -> Function:
  """What a predictor computes, as one function of the images alone.

  It does what `evaluator.make_eval_step` and `Calibration.to_scores` do, with
  the definitions of all operations on every platform (see `target.PORTABLE`).

  Args:
    predictor: whose network computes in float32.

  Returns:
    Maps uint8 [N, H, W, 3] to scores and their logits, float32 [N, num_genres]:
    calibrated probabilities, and the log-odds of them, which have the same
    order where scores of float32 would tie at 1.
  """
  model = predictor_lib.make_model(predictor)
  variables = jax.device_get(predictor.variables)

  def function(images):
    with target.traced_for(target.PORTABLE):
      logits = forward.predict_logits(
        model, variables, images, predictor.preprocessing
      )
    logits = predictor.calibration.to_logits(logits, jnp)
    return jax.nn.sigmoid(logits), logits

  return function


def input_shape(predictor: predictor_lib.Predictor) -> jax.ShapeDtypeStruct:
  """The shape of the images, for any number of them."""
  height, width = predictor.image_shape
  return jax.ShapeDtypeStruct(
    export.symbolic_shape(f'{BATCH}, {height}, {width}, 3'), jnp.uint8
  )
