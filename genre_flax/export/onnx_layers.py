"""Convolutions, pooling and products as ONNX's; see `onnx_rules`."""

import itertools
import math
import string

import numpy as np

from genre_flax.export import onnx_graph
from genre_flax.export import onnx_rules


def _convolution(graph, values, operation):
  images, kernel = (graph.full(value) for value in values)
  params, like = operation.params, operation.outvars[0].aval
  dimensions = params['dimension_numbers']
  if params['batch_group_count'] != 1 or set(params['lhs_dilation']) != {1}:
    raise onnx_rules.UnsupportedError('a transposed or a grouped-batch one')
  convolved = graph.add(
    'Conv',
    [
      _ordered(graph, images, dimensions.lhs_spec),
      _ordered(graph, kernel, dimensions.rhs_spec),
    ],
    shape=like.shape,
    dtype=like.dtype,
    is_first=True,
    strides=params['window_strides'],
    dilations=params['rhs_dilation'],
    group=params['feature_group_count'],
    pads=_pads(params['padding']),
  )
  if dimensions.out_spec == onnx_graph.TO_FIRST:
    return convolved
  return graph.add(
    'Transpose',
    [convolved.name],
    shape=like.shape,
    dtype=like.dtype,
    perm=np.argsort(dimensions.out_spec),
  )


def _ordered(graph, value, spec):
  """The name of a value with its axes in an order of its own."""
  if spec == onnx_graph.TO_FIRST:
    return graph.name(value, first=True)
  if value.is_constant:
    return graph.constant(value.array.transpose(spec))
  return graph.add(
    'Transpose', [graph.name(value)], shape=(), dtype=value.dtype, perm=spec
  ).name


def _pads(pairs):
  """First what is before, then what is after."""
  return [pair[side] for side in (0, 1) for pair in pairs]


def _pool(name):
  """The rule of a pooling over rows and columns."""

  def rule(graph, values, operation):
    value, params = graph.full(values[0]), operation.params
    window = params['window_dimensions']
    if (
      value.rank != 4
      or {window[0], window[3], *params['base_dilation']} != {1}
      or {params['window_strides'][0], params['window_strides'][3]} != {1}
      or any(sum(params['padding'][axis]) for axis in (0, 3))
    ):
      raise onnx_rules.UnsupportedError(
        'other windows than over rows and columns'
      )
    attributes = {'dilations': params['window_dilation'][1:3]}
    if name == 'AveragePool':
      attributes = {'count_include_pad': 1}
      if set(params['window_dilation']) != {1}:
        raise onnx_rules.UnsupportedError('a dilated window')
    like = operation.outvars[0].aval
    pooled = graph.add(
      name,
      [graph.name(value, first=True)],
      shape=like.shape,
      dtype=like.dtype,
      is_first=True,
      kernel_shape=window[1:3],
      strides=params['window_strides'][1:3],
      pads=_pads(params['padding'][1:3]),
      **attributes,
    )
    if name == 'MaxPool':
      return pooled
    size = onnx_graph.number(math.prod(window), like.dtype)
    return onnx_rules.RULES['mul'](graph, [pooled, size], operation)

  return rule


def _product(graph, values, operation):
  left, right = (graph.full(value) for value in values)
  (of_left, of_right), batch = operation.params['dimension_numbers']
  like = operation.outvars[0].aval
  is_by_matrix = (
    not any(batch)
    and right.rank == 2
    and tuple(of_left) == (left.rank - 1,)
    and len(of_right) == 1
  )
  if is_by_matrix and left.is_first and right.is_constant:
    # A 1 x 1 convolution; its pictures need not be turned.
    kernel = right.array if of_right[0] == 1 else right.array.T
    return graph.add(
      'Conv',
      [
        graph.name(left, first=True),
        graph.constant(kernel[:, :, None, None]),
      ],
      shape=like.shape,
      dtype=like.dtype,
      is_first=True,
    )
  if is_by_matrix and of_right[0] == 0:
    return graph.add(
      'MatMul',
      [graph.name(left), graph.name(right)],
      shape=like.shape,
      dtype=like.dtype,
    )
  return _einsum(graph, left, right, operation)


def _einsum(graph, left, right, operation):
  (of_left, of_right), (batch_left, batch_right) = operation.params[
    'dimension_numbers'
  ]
  letters = iter(string.ascii_lowercase)
  left_letters = list(itertools.islice(letters, left.rank))
  right_letters = list(itertools.islice(letters, right.rank))
  for ours, theirs in zip(
    (*of_left, *batch_left), (*of_right, *batch_right), strict=True
  ):
    right_letters[theirs] = left_letters[ours]
  summed = {left_letters[axis] for axis in of_left}
  shared = [left_letters[axis] for axis in batch_left]
  own = [
    letter
    for letter in (*left_letters, *right_letters)
    if letter not in summed and letter not in shared
  ]
  terms = ','.join(map(''.join, (left_letters, right_letters)))
  like = operation.outvars[0].aval
  return graph.add(
    'Einsum',
    [graph.name(left), graph.name(right)],
    shape=like.shape,
    dtype=like.dtype,
    equation=f'{terms}->{"".join([*shared, *own])}',
  )


RULES: dict[str, onnx_rules.Rule] = {
  'conv_general_dilated': _convolution,
  'dot_general': _product,
  'reduce_window_max': _pool('MaxPool'),
  'reduce_window_sum': _pool('AveragePool'),
}
