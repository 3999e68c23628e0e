"""Converts a JAX function to ONNX, equation by equation of its jaxpr.

Equations on constants, such as folding BatchNorm into a scale and a shift, are
evaluated. Networks consist of few primitives, so a rule for each is less code
than existing converters need (see the comparison in docs/exporting.md).
"""

from collections.abc import Callable, Mapping, Sequence
import json
from typing import Any

import jax
from jax.extend import core
import numpy as np
import onnx

from genre_flax.export.onnx_converter import elementwise
from genre_flax.export.onnx_converter import graph as graph_lib
from genre_flax.export.onnx_converter import layers
from genre_flax.export.onnx_converter import shapes
from genre_flax.runtime import errors

_RULES = {**elementwise.RULES, **shapes.RULES, **layers.RULES}
# Parameters under which primitives store their jaxpr.
_JAXPR_PARAMS = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
# Primitives that evaluate their jaxpr once.
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


def convert(
  function: Callable[..., Sequence[jax.Array]],
  arguments: Mapping[str, jax.ShapeDtypeStruct],
  *,
  output_names: Sequence[str],
  metadata: Mapping[str, Any],
) -> onnx.ModelProto:
  """Converts a function of arrays.

  Args:
    function: returns one array per output name.
    arguments: of the function, in order, by the names of the model's inputs;
      their first axis may be symbolic, and is then the same.
    output_names: of the model's outputs.
    metadata: stored in the model, each value as JSON.

  Returns:
    The model, validated by ONNX.

  Raises:
    InputError: the function has a primitive that cannot be converted.
  """
  closed = jax.make_jaxpr(function)(*arguments.values())
  graph = graph_lib.Graph(arguments)
  outputs = _add_jaxpr(graph, closed.jaxpr, closed.consts, graph.inputs)
  model = graph.to_model(
    dict(zip(output_names, outputs, strict=True)), batch='batch'
  )
  model.producer_name = 'genre_flax'
  for key, value in metadata.items():
    model.metadata_props.add(key=key, value=json.dumps(value))
  onnx.checker.check_model(model, full_check=True)
  return model


def _add_jaxpr(
  graph: graph_lib.Graph,
  jaxpr: core.Jaxpr,
  constants: Sequence[Any],
  inputs: Sequence[graph_lib.Value],
) -> list[graph_lib.Value]:
  """Adds a jaxpr to a graph, and returns its outputs."""
  values = dict(zip(jaxpr.invars, inputs, strict=True))
  values |= {
    variable: graph_lib.constant(value)
    for variable, value in zip(jaxpr.constvars, constants, strict=True)
  }

  def read(variable):
    if isinstance(variable, core.Literal):
      value = np.asarray(variable.val, variable.aval.dtype)
      return graph_lib.constant(value)
    return values[variable]

  for equation in jaxpr.eqns:
    outputs = _add_equation(graph, equation, list(map(read, equation.invars)))
    values.update(zip(equation.outvars, outputs, strict=True))
  return list(map(read, jaxpr.outvars))


def _add_equation(graph, equation, values):
  """Adds an equation to a graph, and returns its outputs."""
  name = equation.primitive.name
  if name in _CALLS:
    inner = next(
      equation.params[key] for key in _JAXPR_PARAMS if key in equation.params
    )
    jaxpr = getattr(inner, 'jaxpr', inner)
    return _add_jaxpr(graph, jaxpr, getattr(inner, 'consts', ()), values)
  if _is_constant(equation, values):
    outputs = equation.primitive.bind(
      *(graph.broadcast(value).array for value in values), **equation.params
    )
    if not equation.primitive.multiple_results:
      outputs = [outputs]
    return [graph_lib.constant(jax.device_get(output)) for output in outputs]
  try:
    if name not in _RULES:
      raise elementwise.UnsupportedError('this primitive')
    return [_RULES[name](graph, values, equation)]
  except elementwise.UnsupportedError as e:
    arguments = ', '.join(str(v.aval) for v in equation.invars)
    raise errors.InputError(
      f'The network contains {name!r} of {arguments}; the conversion to ONNX'
      f' does not support {e}. --format=stablehlo exports every network.'
    ) from e


def _is_constant(equation, values):
  """Whether the inputs are constants and all sizes are ints."""
  # `dim_as_value`, the size of the batch, has no inputs either.
  if equation.primitive.name == 'dim_as_value':
    return False
  return all(value.is_constant for value in values) and all(
    isinstance(size, int)
    for variable in (*equation.invars, *equation.outvars)
    for size in variable.aval.shape
  )
