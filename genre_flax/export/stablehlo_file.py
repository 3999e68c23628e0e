"""The function as StableHLO, by `jax.export`.

It runs wherever JAX does, without this package; JAX keeps reading what it wrote
for six months, and three weeks ahead (its documentation, "Compatibility
guarantees").
"""

import re
from typing import Any

# What jax.export needs, and does not name where it is missing.
import flatbuffers  # noqa: F401
import jax
from jax import export

from genre_flax.export import graph as graph_lib

PLATFORMS = ('cpu', 'cuda', 'tpu')
FILE_NAME = 'model.stablehlo'


def make(
  function: graph_lib.Function, images: jax.ShapeDtypeStruct
) -> tuple[bytes, dict[str, Any]]:
  """Converts the function.

  Args:
    function: of `graph.make_function`.
    images: its input, the first axis of any size.

  Returns:
    What `jax.export.deserialize` reads, and the versions that it is of.
  """
  exported = export.export(jax.jit(function), platforms=PLATFORMS)(images)
  # The artifact begins with its version: 'ML\xefR\rStableHLO_v1.15.0'.
  version = re.search(
    rb'StableHLO_v([\d.]+)', exported.mlir_module_serialized[:64]
  )
  return bytes(exported.serialize()), {
    'file': FILE_NAME,
    'platforms': list(exported.platforms),
    'jax': jax.__version__,
    'calling_convention': exported.calling_convention_version,
    'stablehlo': version[1].decode() if version else None,
    'input': [str(aval) for aval in exported.in_avals],
    'outputs': [str(aval) for aval in exported.out_avals],
  }


def load(serialized: bytes):  # noqa: ANN201  Of a type that JAX does not name.
  """The function that `make` wrote, for the check."""
  return jax.jit(export.deserialize(bytearray(serialized)).call)
