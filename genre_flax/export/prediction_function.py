"""The exported function: from pixels, and text, to calibrated scores."""

from collections.abc import Callable

import jax
from jax import export
import jax.numpy as jnp

from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import forward
from genre_flax.models import registry
from genre_flax.models import text_branch
from genre_flax.runtime import target
from genre_flax.training import objectives

# In the order of the function's results.
OUTPUTS = ('scores', 'logits')

# Maps `arguments` to scores and logits, float32 [N, num_genres].
PredictionFunction = Callable[..., tuple[jax.Array, jax.Array]]


def make(predictor: predictor_lib.Predictor) -> PredictionFunction:
  """The predictions of a network as a function of its inputs alone.

  The function computes in float32, by the reference implementation of each
  operation, on every platform.

  Returns:
    Maps uint8 [N, H, W, 3], and the inputs of `TextFeatures` for a network that
    takes text, to scores and logits, float32 [N, num_genres]. The scores are
    calibrated probabilities; where all weights of the text are 0, those of the
    image alone. The logits are their log-odds, which still differ where scores
    are equal in float32, close to 1.
  """
  model = registry.create_from_config(
    predictor.in_float32().config.model, num_genres=len(predictor.genres)
  )
  variables = jax.device_get(predictor.variables)
  logits_fn = objectives.logits_fn(
    predictor.config, label_prior=predictor.label_prior
  )
  names = list(arguments(predictor))

  def predict(*arrays):
    inputs = dict(zip(names, arrays, strict=True))
    images = inputs.pop('images')
    with target.traced_for(target.PORTABLE):
      logits = forward.predict_logits(
        model, variables, images, predictor.preprocessing, **inputs
      )
      if logits_fn is not None:
        logits = logits_fn(logits)
    calibrated = predictor.calibration.to_logits(logits, jnp)
    if predictor.calibration_without_text is not None:
      has_text = text_branch.has_text(inputs['text_weights'])
      alone = predictor.calibration_without_text.to_logits(logits, jnp)
      calibrated = jnp.where(has_text[:, None], calibrated, alone)
    return jax.nn.sigmoid(calibrated), calibrated

  return predict


def arguments(
  predictor: predictor_lib.Predictor,
) -> dict[str, jax.ShapeDtypeStruct]:
  """The arguments of the function by name, in order; the batch is symbolic."""
  [batch] = export.symbolic_shape('batch')
  images = (batch, *predictor.image_shape, 3)
  return {'images': jax.ShapeDtypeStruct(images, jnp.uint8)} | {
    each.name: jax.ShapeDtypeStruct((batch, *each.shape), each.dtype)
    for each in (predictor.text.inputs if predictor.text else ())
  }
