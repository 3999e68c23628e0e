"""Rules for convolutions, pooling and matrix products."""

import math
import string

import numpy as np

from genre_flax.export.onnx_converter import elementwise
from genre_flax.export.onnx_converter import graph as graph_lib


def _convolution(graph, values, equation):
  images, kernel = (graph.broadcast(value) for value in values)
  params, like = equation.params, equation.outvars[0].aval
  dimensions = params['dimension_numbers']
  if params['batch_group_count'] != 1 or set(params['lhs_dilation']) != {1}:
    raise elementwise.UnsupportedError('a transposed or batch-grouped one')
  result = graph.add(
    'Conv',
    [
      _transposed(graph, images, dimensions.lhs_spec),
      _transposed(graph, kernel, dimensions.rhs_spec),
    ],
    like=like,
    channels_first=True,
    strides=params['window_strides'],
    dilations=params['rhs_dilation'],
    group=params['feature_group_count'],
    pads=_pads(params['padding']),
  )
  if dimensions.out_spec == graph_lib.NHWC_TO_NCHW:
    return result
  order = np.argsort(dimensions.out_spec)
  return graph.add('Transpose', [result.name], like=like, perm=order)


def _transposed(graph, value, order):
  """The name of a value with its axes in the given order."""
  if order == graph_lib.NHWC_TO_NCHW:
    return graph.name(value, channels_first=True)
  if value.is_constant:
    return graph.constant(value.array.transpose(order))
  return graph.add_node('Transpose', [graph.name(value)], perm=order)


def _pads(padding):
  """The padding before all axes, then the padding after them."""
  return [pair[side] for side in (0, 1) for pair in padding]


def _pool(operator):
  """The rule of a pooling over height and width."""

  def rule(graph, values, equation):
    value, params = graph.broadcast(values[0]), equation.params
    window = params['window_dimensions']
    if (
      value.rank != 4
      or {window[0], window[3], *params['base_dilation']} != {1}
      or {params['window_strides'][0], params['window_strides'][3]} != {1}
      or any(sum(params['padding'][axis]) for axis in (0, 3))
    ):
      raise elementwise.UnsupportedError(
        'a window over other axes than height and width'
      )
    attributes = {'dilations': params['window_dilation'][1:3]}
    if operator == 'AveragePool':
      attributes = {'count_include_pad': 1}
      if set(params['window_dilation']) != {1}:
        raise elementwise.UnsupportedError('a dilated window')
    like = equation.outvars[0].aval
    pooled = graph.add(
      operator,
      [graph.name(value, channels_first=True)],
      like=like,
      channels_first=True,
      kernel_shape=window[1:3],
      strides=params['window_strides'][1:3],
      pads=_pads(params['padding'][1:3]),
      **attributes,
    )
    if operator == 'MaxPool':
      return pooled
    # JAX's primitive is the sum over the window.
    size = graph_lib.scalar(math.prod(window), like.dtype)
    return elementwise.add(graph, 'Mul', [pooled, size], equation)

  return rule


def _dot_general(graph, values, equation):
  left, right = (graph.broadcast(value) for value in values)
  (left_axes, right_axes), batch_axes = equation.params['dimension_numbers']
  like = equation.outvars[0].aval
  is_matrix_product = (
    not any(batch_axes)
    and right.rank == 2
    and tuple(left_axes) == (left.rank - 1,)
    and len(right_axes) == 1
  )
  if is_matrix_product and left.channels_first and right.is_constant:
    # As a 1 x 1 convolution, which needs no transposition.
    kernel = right.array if right_axes[0] == 1 else right.array.T
    return graph.add(
      'Conv',
      [
        graph.name(left, channels_first=True),
        graph.constant(kernel[:, :, None, None]),
      ],
      like=like,
      channels_first=True,
    )
  inputs = [graph.name(left), graph.name(right)]
  if is_matrix_product and right_axes[0] == 0:
    return graph.add('MatMul', inputs, like=like)
  subscripts = _einsum_subscripts(left.rank, right.rank, equation)
  return graph.add('Einsum', inputs, like=like, equation=subscripts)


def _einsum_subscripts(left_rank, right_rank, equation):
  """The subscripts of a `dot_general`, such as 'abc,dbe->bacde'."""
  contracted, batch = equation.params['dimension_numbers']
  left = list(string.ascii_lowercase[:left_rank])
  right = list(string.ascii_lowercase[left_rank : left_rank + right_rank])
  for left_axes, right_axes in (contracted, batch):
    for left_axis, right_axis in zip(left_axes, right_axes, strict=True):
      right[right_axis] = left[left_axis]
  summed = {left[axis] for axis in contracted[0]}
  shared = [left[axis] for axis in batch[0]]
  free = [
    letter
    for letter in (*left, *right)
    if letter not in summed and letter not in shared
  ]
  return f'{"".join(left)},{"".join(right)}->{"".join([*shared, *free])}'


RULES: dict[str, elementwise.Rule] = {
  'conv_general_dilated': _convolution,
  'dot_general': _dot_general,
  'reduce_window_max': _pool('MaxPool'),
  'reduce_window_sum': _pool('AveragePool'),
}
