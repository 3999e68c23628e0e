"""JAX's operations as ONNX's: what goes element by element, and reductions.

A rule takes the graph, the values of the operation's inputs and the operation
(of a jaxpr), and returns the value of its result. `onnx_shapes` and
`onnx_layers` have the others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from onnx import helper

from genre_flax.export import onnx_graph

Graph = onnx_graph.Graph
Value = onnx_graph.Value
Rule = Callable[[Graph, Sequence[Value], Any], Value]


class UnsupportedError(ValueError):
  """An operation, or a use of it, has no form in ONNX here."""


def _same(graph, values, operation):
  """What says something to a compiler or to a gradient alone."""
  del graph, operation
  return values[0]


def _elementwise(name):
  """The rule of an operation that goes element by element."""

  def rule(graph, values, operation):
    return _add(graph, name, values, operation.outvars[0].aval)

  return rule


def _add(graph, name, values, like, **attributes):
  """Adds a node that goes element by element, its channels where theirs are."""
  first = any(value.is_first for value in values)
  return graph.add(
    name,
    # A number has no axes to turn.
    [graph.name(v, first=first and v.rank > 0) for v in values],
    shape=like.shape,
    held=_held(values, len(like.shape)),
    dtype=like.dtype,
    is_first=first,
    **attributes,
  )


def _held(values, rank):
  """What is held of a result, of several values that ONNX fits together."""
  of_axes = zip(*(v.held for v in values if v.rank == rank), strict=True)
  return tuple(
    next((size for size in sizes if not _is(size, 1)), 1) for sizes in of_axes
  )


def _is(size, number):
  """Whether a size is a number; it may be one that is not known."""
  return isinstance(size, int) and size == number


def _rsqrt(graph, values, operation):
  like = operation.outvars[0].aval
  root = _add(graph, 'Sqrt', values, like)
  return _add(graph, 'Reciprocal', [root], like)


def _log1p(graph, values, operation):
  like = operation.outvars[0].aval
  one = onnx_graph.number(1, values[0].dtype)
  return _add(graph, 'Log', [_add(graph, 'Add', [*values, one], like)], like)


def _expm1(graph, values, operation):
  like = operation.outvars[0].aval
  one = onnx_graph.number(1, values[0].dtype)
  return _add(graph, 'Sub', [_add(graph, 'Exp', values, like), one], like)


def _erfc(graph, values, operation):
  like = operation.outvars[0].aval
  one = onnx_graph.number(1, values[0].dtype)
  return _add(graph, 'Sub', [one, _add(graph, 'Erf', values, like)], like)


def _not_equal(graph, values, operation):
  like = operation.outvars[0].aval
  return _add(graph, 'Not', [_add(graph, 'Equal', values, like)], like)


def _power(graph, values, operation):
  like = operation.outvars[0].aval
  exponent = operation.params.get('y', 2)
  if exponent == 2:
    return _add(graph, 'Mul', [values[0], values[0]], like)
  number = onnx_graph.number(exponent, values[0].dtype)
  return _add(graph, 'Pow', [values[0], number], like)


def _cast(graph, values, operation):
  like = operation.outvars[0].aval
  try:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(like.dtype))
  except (TypeError, ValueError):
    kind = None
  if kind is None or like.dtype == jax.numpy.bfloat16:
    raise UnsupportedError(f'numbers of {like.dtype}')
  return _add(graph, 'Cast', values, like, to=kind)


def _maximum(graph, values, operation):
  like = operation.outvars[0].aval
  for number, other in (values, values[::-1]):
    if number.is_number(0) and not other.is_constant:
      result = _add(graph, 'Relu', [other], like)
      graph.relu_of[result.name] = other
      return result
  return _add(graph, 'Max', values, like)


def _minimum(graph, values, operation):
  like = operation.outvars[0].aval
  for number, other in (values, values[::-1]):
    # ReLU6, which runtimes know as one operation.
    source = graph.relu_of.get(other.name)
    if source is not None and number.is_constant and number.array.size == 1:
      bounds = [
        onnx_graph.number(n, like.dtype) for n in (0, number.array.item())
      ]
      return _add(graph, 'Clip', [source, *bounds], like)
  return _add(graph, 'Min', values, like)


def _clamp(graph, values, operation):
  like = operation.outvars[0].aval
  low, value, high = values
  return _add(
    graph, 'Min', [_add(graph, 'Max', [value, low], like), high], like
  )


def _select(graph, values, operation):
  if len(values) != 3 or values[0].dtype != bool:
    raise UnsupportedError('a choice among more than two')
  which, if_false, if_true = values
  return _add(
    graph, 'Where', [which, if_true, if_false], operation.outvars[0].aval
  )


def _reduce(name):
  """The rule of a reduction."""

  def rule(graph, values, operation):
    value, like = graph.full(values[0]), operation.outvars[0].aval
    axes = operation.params['axes']
    # With the rows and columns gone, what is left is in order.
    first = value.is_first and {1, 2} <= set(axes)
    axes = [onnx_graph.place(axis, first=first) for axis in axes]
    return graph.add(
      name,
      [
        graph.name(value, first=first),
        graph.constant(np.array(axes, np.int64)),
      ],
      shape=like.shape,
      dtype=like.dtype,
      keepdims=0,
    )

  return rule


_ELEMENTWISE = {
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
_REDUCTIONS = {
  'reduce_max': 'ReduceMax',
  'reduce_min': 'ReduceMin',
  'reduce_prod': 'ReduceProd',
  'reduce_sum': 'ReduceSum',
}

RULES: dict[str, Rule] = {
  **{name: _elementwise(theirs) for name, theirs in _ELEMENTWISE.items()},
  **{name: _reduce(theirs) for name, theirs in _REDUCTIONS.items()},
  **dict.fromkeys(
    ('copy', 'copy_p', 'optimization_barrier', 'stop_gradient'), _same
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
  'rsqrt': _rsqrt,
  'select_n': _select,
  'square': _power,
}
