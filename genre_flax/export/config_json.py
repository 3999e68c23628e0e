"""config.json of an export: how to use the network, and its origin."""

import dataclasses
from typing import Any

from genre_flax import config as config_lib
from genre_flax.datasets.posters import text_features
from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.export import prediction_function
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import custom
from genre_flax.runtime import machine

FILE_NAME = 'config.json'
# Value of 'made_by', by which a folder is recognized as an export.
PROGRAM = 'genre_flax'


def make(predictor: predictor_lib.Predictor) -> dict[str, Any]:
  """The values for JSON that hold for all formats."""
  config = predictor.config
  height, width = predictor.image_shape
  calibration = predictor.calibration.to_dict()
  model = config_lib.to_dict(config.model)
  name = model['name']
  values = {
    'made_by': PROGRAM,
    'step': predictor.step,
    'dataset_fingerprint': predictor.fingerprint,
    'network': {
      'name': name,
      'options': model['options' if custom.is_custom(name) else name],
      'training_dtype': model['dtype'],
      'dtype': 'float32',
      'pretrained': config.pretrained,
      'has_init_from': bool(config.init_from),
    },
    'genres': list(predictor.genres),
    'image_height': height,
    'image_width': width,
    'pixel_mean': float(config.pixel_mean),
    'pixel_scale': float(config.pixel_scale),
    'eval_crops': [float(share) for share in config.eval_crops],
    'calibration': scaling(predictor.calibration),
    'label_sets': calibration['label_sets'],
    'thresholds': calibration['thresholds'],
    'inputs': list(prediction_function.arguments(predictor)),
    'outputs': list(prediction_function.OUTPUTS),
    'versions': machine.versions((PROGRAM, 'jax', 'flax')),
  }
  if predictor.text is not None:
    features = dataclasses.asdict(predictor.text)
    values['text'] = features | {'hashing': text_features.HASHING}
  if (alone := predictor.calibration_without_text) is not None:
    stored = alone.to_dict()
    values['calibration_without_text'] = scaling(alone)
    values['label_sets_without_text'] = stored['label_sets']
    values['thresholds_without_text'] = stored['thresholds']
  return values


def scaling(
  calibration: calibration_lib.Calibration,
) -> dict[str, list[float]]:
  """Slope and intercept of each genre's logits."""
  return {
    'slope': calibration.slope.tolist(),
    'intercept': calibration.intercept.tolist(),
  }
