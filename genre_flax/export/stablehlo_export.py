"""Export as StableHLO, by `jax.export`.

The file runs wherever JAX does, without this package. JAX reads files that are
up to six months older or three weeks newer than itself (see "Compatibility
guarantees" in its documentation).
"""

import json
import pathlib
import re
from typing import Any

# jax.export needs it, but does not name it in the error if it is missing.
import flatbuffers  # noqa: F401
import jax
from jax import export

from genre_flax.export import prediction_function
from genre_flax.export import verification
from genre_flax.inference import predictor as predictor_lib

PLATFORMS = ('cpu', 'cuda', 'tpu')
FILE_NAME = 'model.stablehlo'
VERSIONS_FILE_NAME = 'stablehlo.json'


def write(
  predictor: predictor_lib.Predictor,
  folder: pathlib.Path,
  config: dict[str, Any],
) -> verification.Runner:
  """Writes the function and the versions of its format."""
  del config
  exported = export.export(
    jax.jit(prediction_function.make(predictor)),
    platforms=PLATFORMS,
  )(*prediction_function.arguments(predictor).values())
  path = folder / FILE_NAME
  path.write_bytes(exported.serialize())
  # The module starts with its version: b'ML\xefR\rStableHLO_v1.15.0'.
  version = re.search(
    rb'StableHLO_v([\d.]+)', exported.mlir_module_serialized[:64]
  )
  versions = {
    'file': FILE_NAME,
    'platforms': list(exported.platforms),
    'jax': jax.__version__,
    'calling_convention': exported.calling_convention_version,
    'stablehlo': version[1].decode() if version else None,
    'input': [str(aval) for aval in exported.in_avals],
    'outputs': [str(aval) for aval in exported.out_avals],
  }
  content = json.dumps(versions, indent=2)
  (folder / VERSIONS_FILE_NAME).write_text(f'{content}\n')
  return jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
