"""What an export says of itself, as plain values: its config.json."""

from typing import Any

from genre_flax import config as config_lib
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.export import graph
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import custom
from genre_flax.runtime import machine

FILE_NAME = 'config.json'
PROGRAM = 'genre_flax'


def describe(predictor: predictor_lib.Predictor) -> dict[str, Any]:
  """All that is needed to use the function, and where it comes from.

  Args:
    predictor: as it was restored.

  Returns:
    What JSON can hold.
  """
  config = predictor.config
  height, width = predictor.image_shape
  calibration = predictor.calibration.to_dict()
  model = config_lib.to_dict(config.model)
  name = model['name']
  return {
    'made_by': PROGRAM,
    'step': predictor.step,
    'dataset_fingerprint': predictor.fingerprint,
    'network': {
      'name': name,
      'options': model['options' if custom.is_custom(name) else name],
      'trained_in': model['dtype'],
      'computes_in': 'float32',
      'published_weights': config.pretrained,
      'is_from_another_run': bool(config.init_from),
    },
    'genres': list(predictor.genres),
    'image_height': height,
    'image_width': width,
    'pixel_mean': float(config.pixel_mean),
    'pixel_scale': float(config.pixel_scale),
    'zooms': [float(zoom) for zoom in config.eval_crops],
    'calibration': describe_calibration(predictor.calibration),
    'label_sets': calibration['label_sets'],
    'thresholds': calibration['thresholds'],
    'input': graph.INPUT,
    'outputs': list(graph.OUTPUTS),
    'versions': machine.versions([PROGRAM, 'flax', 'jax']),
  }


def describe_calibration(
  calibration: calibration_lib.Calibration,
) -> dict[str, list[float]]:
  """What turns logits into those of scores, for each genre."""
  return {
    'slope': calibration.slope.tolist(),
    'intercept': calibration.intercept.tolist(),
  }
