"""A network as timm loads it: its arrays by timm's names, and what it builds.

`timm.create_model('local-dir:FOLDER', pretrained=True)` reads both.
"""

import dataclasses
import pathlib
from typing import Any

from etils import epath
import jax
import numpy as np

from genre_flax.evaluation import calibration as calibration_lib
from genre_flax.export import graph
from genre_flax.inference import predictor as predictor_lib
from genre_flax.pretrained import timm_architectures
from genre_flax.pretrained import timm_weights
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors

FILE_NAME = 'model.safetensors'


def describe(predictor: predictor_lib.Predictor) -> dict[str, Any]:
  """What timm reads in config.json: the network, its arguments, its pixels.

  Args:
    predictor: as it was restored.

  Raises:
    InputError: timm has no such network.
  """
  config, (height, width) = predictor.config, predictor.image_shape
  network = config.model.name
  try:
    architecture = timm_architectures.describe(
      network, config.model.get(network, {}), (height, width)
    )
  except errors.InputError as e:
    raise errors.InputError(f'{e} --format=onnx takes any network.') from None
  return {
    'architecture': architecture.name,
    'num_classes': len(predictor.genres),
    'model_args': architecture.arguments,
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


def score_each_alone(
  predictor: predictor_lib.Predictor,
) -> predictor_lib.Predictor:
  """The predictor whose scores the sigmoid of timm's logits gives."""
  return dataclasses.replace(
    predictor,
    calibration=dataclasses.replace(predictor.calibration, label_sets=None),
  )


def make_arrays(predictor: predictor_lib.Predictor) -> dict[str, np.ndarray]:
  """The variables that evaluate, by timm's names.

  The calibration is taken up by the head, exactly: the sigmoid of timm's logits
  are the calibrated scores of one look.

  Args:
    predictor: of a network that `describe` takes.

  Returns:
    float32 arrays.
  """
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


def read_back(
  folder: pathlib.Path, predictor: predictor_lib.Predictor
) -> graph.Function:
  """What our network computes with the arrays of the file.

  Args:
    folder: with what `make_arrays` made, written.
    predictor: that it is of.

  Returns:
    See `graph.make_function`.
  """
  config = predictor.in_float32().config.copy_and_resolve_references()
  options = config.model[config.model.name]
  options.feature_norm = False  # The head has it.
  result = timm_weights.to_variables(
    weight_files.read_safetensors(epath.Path(folder / FILE_NAME)),
    network=config.model.name,
    options=options.to_dict(),
    image_shape=predictor.image_shape,
    published_shape=predictor.image_shape,
    origin=FILE_NAME,
  )
  variables = {'params': result.params, 'batch_stats': result.batch_stats}
  changed = dataclasses.replace(
    predictor,
    config=config,
    variables=variables,
    calibration=calibration_lib.identity(predictor.genres),
  )
  return jax.jit(graph.make_function(changed))
