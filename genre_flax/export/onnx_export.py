"""Export as ONNX."""

import pathlib
from typing import Any

import onnxruntime

from genre_flax.export import prediction_function
from genre_flax.export import verification
from genre_flax.export.onnx_converter import converter
from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import machine

FILE_NAME = 'model.onnx'


def write(
  predictor: predictor_lib.Predictor,
  folder: pathlib.Path,
  config: dict[str, Any],
) -> verification.Runner:
  """Writes the function as ONNX, with `config` and versions as metadata.

  Raises:
    InputError: the network has an operation that cannot be converted.
  """
  config['versions'] |= machine.versions(('onnx', 'onnxruntime'))
  arguments = prediction_function.arguments(predictor)
  model = converter.convert(
    prediction_function.make(predictor),
    arguments,
    output_names=prediction_function.OUTPUTS,
    metadata=config,
  )
  path = folder / FILE_NAME
  path.write_bytes(model.SerializeToString(deterministic=True))
  session = onnxruntime.InferenceSession(
    path, providers=['CPUExecutionProvider']
  )
  return lambda *arrays: session.run(
    list(prediction_function.OUTPUTS),
    dict(zip(arguments, arrays, strict=True)),
  )
