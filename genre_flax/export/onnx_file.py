"""The function as an ONNX file.

JAX's program (a jaxpr) is gone through operation by operation, and each becomes
ONNX's own; those on known numbers alone, such as the folding of BatchNorm into
a scale and a shift, are carried out. Few operations make a network, and a rule
for each is less than what converters bring along (docs/exporting.md compares).
"""

from collections.abc import Mapping, Sequence
import json
from typing import Any

import jax
from jax.extend import core
import numpy as np
import onnx

from genre_flax.export import graph as graph_lib
from genre_flax.export import onnx_graph
from genre_flax.export import onnx_layers
from genre_flax.export import onnx_rules
from genre_flax.export import onnx_shapes
from genre_flax.runtime import errors

_RULES = {**onnx_rules.RULES, **onnx_shapes.RULES, **onnx_layers.RULES}
# Where an operation keeps the program that it stands for.
_PROGRAMS = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
# Whose program is run once.
_CALLS = (
  'checkpoint',
  'closed_call',
  'core_call',
  'custom_jvp_call',
  'custom_vjp_call',
  'custom_vjp_call_jaxpr',
  'jit',
  'pjit',
  'remat',
  'remat2',
)


def make(
  function: graph_lib.Function,
  images: jax.ShapeDtypeStruct,
  *,
  metadata: Mapping[str, Any],
) -> onnx.ModelProto:
  """Converts the function.

  Args:
    function: of `graph.make_function`.
    images: its input, the first axis of any size.
    metadata: to be kept in the file, each value as JSON.

  Returns:
    The model, checked by ONNX's own rules.

  Raises:
    InputError: the network has an operation without a rule.
  """
  program = jax.make_jaxpr(function)(images)
  graph = onnx_graph.Graph(graph_lib.INPUT, images.shape, images.dtype)
  results = _run(graph, program.jaxpr, program.consts, [graph.input])
  model = graph.to_model(
    dict(zip(graph_lib.OUTPUTS, results, strict=True)), batch=graph_lib.BATCH
  )
  model.producer_name = 'genre_flax'
  for key, value in metadata.items():
    model.metadata_props.add(key=key, value=json.dumps(value))
  onnx.checker.check_model(model, full_check=True)
  return model


def _run(
  graph: onnx_graph.Graph,
  program: core.Jaxpr,
  constants: Sequence[Any],
  inputs: Sequence[onnx_graph.Value],
) -> list[onnx_graph.Value]:
  """Adds a program to a graph; returns its results."""
  known = dict(zip(program.invars, inputs, strict=True))
  known |= {
    variable: onnx_graph.constant(value)
    for variable, value in zip(program.constvars, constants, strict=True)
  }

  def read(variable):
    if isinstance(variable, core.Literal):
      value = np.asarray(variable.val, variable.aval.dtype)
      return onnx_graph.constant(value)
    return known[variable]

  for operation in program.eqns:
    results = _add(graph, operation, list(map(read, operation.invars)))
    known.update(zip(operation.outvars, results, strict=True))
  return list(map(read, program.outvars))


def _add(graph, operation, values):
  """Adds an operation to a graph; returns its results."""
  name = operation.primitive.name
  if name in _CALLS:
    inner = next(
      operation.params[key] for key in _PROGRAMS if key in operation.params
    )
    program = getattr(inner, 'jaxpr', inner)
    return _run(graph, program, getattr(inner, 'consts', ()), values)
  if _is_known(operation, values):
    results = operation.primitive.bind(
      *(graph.full(value).array for value in values), **operation.params
    )
    if not operation.primitive.multiple_results:
      results = [results]
    return [onnx_graph.constant(jax.device_get(result)) for result in results]
  try:
    if name not in _RULES:
      raise onnx_rules.UnsupportedError('it')
    return [_RULES[name](graph, values, operation)]
  except onnx_rules.UnsupportedError as e:
    shapes = ', '.join(str(v.aval) for v in operation.invars)
    raise errors.InputError(
      f'The network has the operation {name!r} of {shapes}, and {e} cannot be'
      ' written as ONNX here. --format=stablehlo takes every network.'
    ) from e


def _is_known(operation, values):
  """Whether an operation is on known numbers alone, and gives such."""
  # The size of the batch as a number has no inputs either.
  if operation.primitive.name == 'dim_as_value':
    return False
  return all(value.is_constant for value in values) and all(
    isinstance(size, int)
    for variable in (*operation.invars, *operation.outvars)
    for size in variable.aval.shape
  )
