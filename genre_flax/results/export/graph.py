"""The function that is handed on: from pixels to calibrated scores."""

from collections.abc import Callable

import jax
from jax import export
import jax.numpy as jnp

from genre_flax.data import augment
from genre_flax.results import predict
from genre_flax.runtime import target

INPUT = 'images'
# In the order of the function's results.
OUTPUTS = ('scores', 'logits')
BATCH = 'batch'

Function = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def make_function(predictor: predict.Predictor) -> Function:
  """What a predictor computes, as one function of the images alone.

  It does what `evaluate.make_eval_step` and `Calibration.to_scores` do, with
  the definitions of all operations on every platform (see `target.ANY`).

  Args:
    predictor: whose network computes in float32.

  Returns:
    Maps uint8 [N, H, W, 3] to scores and their logits, float32 [N, num_genres]:
    calibrated probabilities, and the log-odds of them, which have the same
    order where scores of float32 would tie at 1.
  """
  config = predictor.config
  model = predict.make_model(predictor)
  variables = jax.device_get(predictor.variables)

  def look(images):
    images = augment.normalize(
      images, pixel_mean=config.pixel_mean, pixel_scale=config.pixel_scale
    )
    return model.apply(variables, images, train=False)

  def function(images):
    with target.traced_for(target.ANY):
      looks = [
        look(images if share == 1 else augment.zoom(images, share))
        for share in config.eval_zooms
      ]
    logits = predictor.calibration.to_logits(sum(looks) / len(looks), jnp)
    return jax.nn.sigmoid(logits), logits

  return function


def input_shape(predictor: predict.Predictor) -> jax.ShapeDtypeStruct:
  """The shape of the images, for any number of them."""
  height, width = predictor.image_shape
  return jax.ShapeDtypeStruct(
    export.symbolic_shape(f'{BATCH}, {height}, {width}, 3'), jnp.uint8
  )
