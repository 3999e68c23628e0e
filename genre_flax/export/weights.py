"""The network's numbers by themselves, as safetensors."""

import pathlib

import jax
import numpy as np
import safetensors.numpy

from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import params

FILE_NAME = 'model.safetensors'


def write(path: pathlib.Path, predictor: predictor_lib.Predictor) -> None:
  """Writes the variables that evaluate, by names such as 'params/head/kernel'.

  The parameters are the moving average of them, where the run kept one.

  Args:
    path: of the file.
    predictor: as it was restored.
  """
  variables = jax.device_get(predictor.variables)
  flat = {
    name: np.ascontiguousarray(array)
    for name, array in params.flatten(variables, sep='/').items()
  }
  # Not by save_file, whose files nobody else may read.
  path.write_bytes(safetensors.numpy.save(flat, metadata={'format': 'flax'}))
