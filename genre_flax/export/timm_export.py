"""Export for timm: weights under timm's names, and the network to create.

`timm.create_model('local-dir:FOLDER', pretrained=True)` reads the folder.
"""

import dataclasses
import pathlib
from typing import Any

from etils import epath
import jax
import numpy as np
from safetensors import numpy as safetensors

from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.export import config_json
from genre_flax.export import prediction_function
from genre_flax.export import timm_architectures
from genre_flax.export import verification
from genre_flax.inference import predictor as predictor_lib
from genre_flax.pretrained import timm_weights
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors

FILE_NAME = 'model.safetensors'


def without_label_sets(
  predictor: predictor_lib.Predictor,
) -> predictor_lib.Predictor:
  """The predictor that scores each genre alone, as a network of timm does."""
  return dataclasses.replace(
    predictor,
    calibration=dataclasses.replace(predictor.calibration, label_sets=None),
  )


def write(
  predictor: predictor_lib.Predictor,
  folder: pathlib.Path,
  config: dict[str, Any],
) -> verification.Runner:
  """Writes the weights, and adds the values that timm reads to `config`.

  The head of the written network includes the calibration: the sigmoids of
  timm's logits are the calibrated scores without test-time augmentation.

  Raises:
    InputError: timm has no such network.
  """
  config |= _timm_config(predictor)
  identity = calibration_lib.identity(predictor.genres)
  config['calibration'] = config_json.scaling(identity)
  # The thresholds were fitted to scores with label sets.
  del config['thresholds']
  content = safetensors.save(_timm_arrays(predictor), metadata={'format': 'pt'})
  (folder / FILE_NAME).write_bytes(content)
  return _read_back(folder, predictor)


def _timm_config(predictor) -> dict[str, Any]:
  """The network, its arguments and its preprocessing, as timm reads them."""
  config, (height, width) = predictor.config, predictor.image_shape
  network = config.model.name
  try:
    architecture, arguments = timm_architectures.describe(
      network, config.model.get(network, {}), (height, width)
    )
  except errors.InputError as e:
    raise errors.InputError(
      f'{e} --format=onnx exports other networks.'
    ) from None
  return {
    'architecture': architecture,
    'num_classes': len(predictor.genres),
    'model_args': arguments,
    'pretrained_cfg': {
      'input_size': [3, height, width],
      'fixed_input_size': network == 'vit',
      'interpolation': 'bilinear',
      'crop_pct': 1.0,
      'crop_mode': 'squash',
      'mean': [config.pixel_mean / 255] * 3,
      'std': [config.pixel_scale / 255] * 3,
      'num_classes': len(predictor.genres),
      'label_names': list(predictor.genres),
    },
  }


def _timm_arrays(predictor) -> dict[str, np.ndarray]:
  """The variables under timm's names, float32, calibrated by the head."""
  variables = jax.device_get(predictor.variables)
  params, calibration = dict(variables['params']), predictor.calibration
  head = params['head']
  params['head'] = {
    'kernel': np.asarray(head['kernel'], float) * calibration.slope,
    'bias': head['bias'] * calibration.slope + calibration.intercept,
  }
  model = predictor.config.model
  return timm_weights.from_variables(
    {**variables, 'params': params},
    network=model.name,
    options=model[model.name].to_dict(),
  )


def _read_back(folder, predictor) -> verification.Runner:
  """The network of this package with the written weights."""
  config = predictor.config.copy_and_resolve_references()
  options = config.model[config.model.name]
  options.feature_norm = False  # It is part of the written head.
  converted = timm_weights.to_variables(
    weight_files.read_safetensors(epath.Path(folder / FILE_NAME)),
    network=config.model.name,
    options=options.to_dict(),
    image_shape=predictor.image_shape,
    published_shape=predictor.image_shape,
    origin=FILE_NAME,
  )
  written = dataclasses.replace(
    predictor,
    config=config,
    variables={
      'params': converted.params,
      'batch_stats': converted.batch_stats,
    },
    calibration=calibration_lib.identity(predictor.genres),
  )
  return jax.jit(prediction_function.make(written))
