"""Rules for elementwise primitives and reductions.

A rule takes the graph, the values of a primitive's inputs and the equation (of
a jaxpr), adds nodes to the graph, and returns the value of the output.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from onnx import helper
from onnx import TensorProto

from genre_flax.export.onnx_converter import graph as graph_lib

Graph = graph_lib.Graph
Value = graph_lib.Value
Rule = Callable[[Graph, Sequence[Value], Any], Value]


class UnsupportedError(ValueError):
  """A primitive, or a use of it, that no rule converts."""


def add(
  graph: Graph, operator: str, values: Sequence[Value], equation: Any, **options
) -> Value:
  """Adds an elementwise node, which keeps the layout of its inputs."""
  like = equation.outvars[0].aval
  channels_first = any(value.channels_first for value in values)
  inputs = [
    # A scalar has no axes to transpose.
    graph.name(value, channels_first=channels_first and value.rank > 0)
    for value in values
  ]
  return graph.add(
    operator,
    inputs,
    like=like,
    stored_shape=_broadcast_shapes(values, len(like.shape)),
    channels_first=channels_first,
    **options,
  )


def _broadcast_shapes(values, rank):
  """The stored shape of an elementwise output."""
  shapes = [value.stored_shape for value in values if value.rank == rank]
  return tuple(
    # Symbolic sizes cannot be compared with 1.
    next((s for s in sizes if not (isinstance(s, int) and s == 1)), 1)
    for sizes in zip(*shapes, strict=True)
  )


def _elementwise(operator):
  return lambda graph, values, equation: add(graph, operator, values, equation)


def _identity(graph, values, equation):
  del graph, equation
  return values[0]


def _rsqrt(graph, values, equation):
  root = add(graph, 'Sqrt', values, equation)
  return add(graph, 'Reciprocal', [root], equation)


def _log1p(graph, values, equation):
  one = graph_lib.scalar(1, values[0].dtype)
  total = add(graph, 'Add', [*values, one], equation)
  return add(graph, 'Log', [total], equation)


def _expm1(graph, values, equation):
  one = graph_lib.scalar(1, values[0].dtype)
  exp = add(graph, 'Exp', values, equation)
  return add(graph, 'Sub', [exp, one], equation)


def _erfc(graph, values, equation):
  one = graph_lib.scalar(1, values[0].dtype)
  erf = add(graph, 'Erf', values, equation)
  return add(graph, 'Sub', [one, erf], equation)


def _not_equal(graph, values, equation):
  equal = add(graph, 'Equal', values, equation)
  return add(graph, 'Not', [equal], equation)


def _power(graph, values, equation):
  exponent = equation.params.get('y', 2)
  if exponent == 2:
    return add(graph, 'Mul', [values[0], values[0]], equation)
  exponent = graph_lib.scalar(exponent, values[0].dtype)
  return add(graph, 'Pow', [values[0], exponent], equation)


def _cast(graph, values, equation):
  dtype = equation.outvars[0].aval.dtype
  try:
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
  except (TypeError, ValueError):
    onnx_type = None
  if onnx_type is None or dtype == jnp.bfloat16:
    raise UnsupportedError(f'the type {dtype}')
  return add(graph, 'Cast', values, equation, to=onnx_type)


def _maximum(graph, values, equation):
  for bound, other in (values, values[::-1]):
    if bound.equals(0) and not other.is_constant:
      result = add(graph, 'Relu', [other], equation)
      graph.relu_inputs[result.name] = other
      return result
  return add(graph, 'Max', values, equation)


def _minimum(graph, values, equation):
  for bound, other in (values, values[::-1]):
    # ReLU6, which runtimes compute as one operation.
    source = graph.relu_inputs.get(other.name)
    if source is not None and bound.is_constant and bound.array.size == 1:
      bounds = [
        graph_lib.scalar(n, bound.dtype) for n in (0, bound.array.item())
      ]
      return add(graph, 'Clip', [source, *bounds], equation)
  return add(graph, 'Min', values, equation)


def _clamp(graph, values, equation):
  low, value, high = values
  raised = add(graph, 'Max', [value, low], equation)
  return add(graph, 'Min', [raised, high], equation)


def _select(graph, values, equation):
  if len(values) != 3 or values[0].dtype != bool:
    raise UnsupportedError('a selection from more than two arrays')
  condition, if_false, if_true = values
  return add(graph, 'Where', [condition, if_true, if_false], equation)


def _reduction(operator):
  def rule(graph, values, equation):
    value, axes = graph.broadcast(values[0]), equation.params['axes']
    # Without height and width, the remaining axes have the same order in both
    # layouts.
    channels_first = value.channels_first and {1, 2} <= set(axes)
    axes = [
      graph_lib.axis_index(axis, channels_first=channels_first) for axis in axes
    ]
    return graph.add(
      operator,
      [graph.name(value, channels_first=channels_first), graph.int64(axes)],
      like=equation.outvars[0].aval,
      keepdims=0,
    )

  return rule


def _any(graph, values, equation):
  # ReduceMax takes booleans from opset 20 on only.
  numbers = dataclasses.replace(
    values[0],
    array=None,
    name=graph.add_node('Cast', [graph.name(values[0])], to=TensorProto.INT32),
    channels_first=False,
  )
  result = _reduction('ReduceMax')(graph, [numbers], equation)
  return add(graph, 'Cast', [result], equation, to=TensorProto.BOOL)


_OPERATORS = {
  'abs': 'Abs',
  'add': 'Add',
  'add_any': 'Add',
  'and': 'And',
  'ceil': 'Ceil',
  'cos': 'Cos',
  'div': 'Div',
  'eq': 'Equal',
  'erf': 'Erf',
  'exp': 'Exp',
  'floor': 'Floor',
  'ge': 'GreaterOrEqual',
  'gt': 'Greater',
  'le': 'LessOrEqual',
  'log': 'Log',
  'logistic': 'Sigmoid',
  'lt': 'Less',
  'mul': 'Mul',
  'neg': 'Neg',
  'not': 'Not',
  'or': 'Or',
  'pow': 'Pow',
  'sign': 'Sign',
  'sin': 'Sin',
  'sqrt': 'Sqrt',
  'sub': 'Sub',
  'tanh': 'Tanh',
}
RULES: dict[str, Rule] = {
  **{name: _elementwise(operator) for name, operator in _OPERATORS.items()},
  **dict.fromkeys(
    ('copy', 'copy_p', 'optimization_barrier', 'stop_gradient'), _identity
  ),
  'clamp': _clamp,
  'convert_element_type': _cast,
  'erfc': _erfc,
  'expm1': _expm1,
  'integer_pow': _power,
  'log1p': _log1p,
  'max': _maximum,
  'min': _minimum,
  'ne': _not_equal,
  'reduce_max': _reduction('ReduceMax'),
  'reduce_or': _any,
  'reduce_min': _reduction('ReduceMin'),
  'reduce_prod': _reduction('ReduceProd'),
  'reduce_sum': _reduction('ReduceSum'),
  'rsqrt': _rsqrt,
  'select_n': _select,
  'square': _power,
}
