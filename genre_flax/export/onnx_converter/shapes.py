"""Rules for primitives that move elements without changing them."""

import math

from jax import lax
import numpy as np

from genre_flax.export.onnx_converter import elementwise
from genre_flax.export.onnx_converter import graph as graph_lib


def _broadcast(graph, values, equation):
  value, shape = values[0], equation.params['shape']
  kept = equation.params['broadcast_dimensions']
  stored_shape = [1] * len(shape)
  for axis, size in zip(kept, value.stored_shape, strict=True):
    stored_shape[axis] = size
  if value.is_constant:
    return graph_lib.constant(value.array.reshape(stored_shape), shape)
  name = graph.name(value)
  added = [axis for axis in range(len(shape)) if axis not in kept]
  if added:
    name = graph.add_node('Unsqueeze', [name, graph.int64(added)])
  return graph_lib.Value(
    tuple(shape), tuple(stored_shape), value.dtype, name=name
  )


def _reshape(graph, values, equation):
  if equation.params.get('dimensions') is not None:
    raise elementwise.UnsupportedError('a reshape that transposes')
  like = equation.outvars[0].aval
  sizes = [size if isinstance(size, int) else -1 for size in like.shape]
  if sizes.count(-1) > 1:
    raise elementwise.UnsupportedError('a reshape to several symbolic sizes')
  value = graph.broadcast(values[0])
  return graph.add(
    'Reshape', [graph.name(value), graph.int64(sizes)], like=like
  )


def _transpose(graph, values, equation):
  return graph.add(
    'Transpose',
    [graph.name(graph.broadcast(values[0]))],
    like=equation.outvars[0].aval,
    perm=equation.params['permutation'],
  )


def _concatenate(graph, values, equation):
  values = [graph.broadcast(value) for value in values]
  channels_first = any(value.channels_first for value in values)
  axis = graph_lib.axis_index(
    equation.params['dimension'], channels_first=channels_first
  )
  return graph.add(
    'Concat',
    [graph.name(value, channels_first=channels_first) for value in values],
    like=equation.outvars[0].aval,
    channels_first=channels_first,
    axis=axis,
  )


def _stack(graph, values, equation):
  axis = equation.params['axis']
  names = [
    graph.add_node(
      'Unsqueeze', [graph.name(graph.broadcast(value)), graph.int64([axis])]
    )
    for value in values
  ]
  return graph.add('Concat', names, like=equation.outvars[0].aval, axis=axis)


def _slice(graph, values, equation):
  params, value = equation.params, graph.broadcast(values[0])
  strides = params['strides'] or (1,) * value.rank
  slices = [
    (start, stop, axis, stride)
    for axis, (start, stop, stride) in enumerate(
      zip(
        params['start_indices'], params['limit_indices'], strides, strict=True
      )
    )
    if (start, stride) != (0, 1) or stop != value.shape[axis]
  ]
  if not slices:
    return value
  if not all(isinstance(n, int) for numbers in slices for n in numbers):
    raise elementwise.UnsupportedError('a slice of the batch')
  return _add_slice(graph, value, slices, equation)


def _reverse(graph, values, equation):
  value, axes = graph.broadcast(values[0]), equation.params['dimensions']
  if 0 in axes:
    raise elementwise.UnsupportedError('a reversal of the batch')
  # From the last element, which is -1, to before the first.
  slices = [(-1, -1 - value.shape[axis], axis, -1) for axis in axes]
  return _add_slice(graph, value, slices, equation)


def _add_slice(graph, value, slices, equation):
  """Adds a node for slices (start, stop, axis, stride) of JAX's axes."""
  channels_first = value.channels_first
  starts, stops, axes, strides = zip(*slices, strict=True)
  axes = [
    graph_lib.axis_index(axis, channels_first=channels_first) for axis in axes
  ]
  return graph.add(
    'Slice',
    [
      graph.name(value, channels_first=channels_first),
      *map(graph.int64, (starts, stops, axes, strides)),
    ],
    like=equation.outvars[0].aval,
    channels_first=channels_first,
  )


def _gather(graph, values, equation):
  """Gathers at constant indices, the same for each example: x[:, ::2]."""
  if not values[1].is_constant:
    return _gather_rows(graph, values, equation)
  value, indices = graph.broadcast(values[0]), values[1]
  params = equation.params
  dimensions = params['dimension_numbers']
  example_shape = value.shape[1:]
  if not (
    params['slice_sizes'][:1] == value.shape[:1]
    and dimensions.offset_dims[:1] == (0,)
    and 0 not in dimensions.start_index_map
    and all(isinstance(size, int) for size in example_shape)
  ):
    raise elementwise.UnsupportedError('indices that are not constant')
  size = math.prod(example_shape)
  positions = lax.gather(
    np.arange(size, dtype=np.int32).reshape(1, *example_shape),
    indices.array,
    dimensions,
    (1, *params['slice_sizes'][1:]),
    mode=params['mode'],
    fill_value=params['fill_value'],
  )
  flat = graph.add_node('Reshape', [graph.name(value), graph.int64([-1, size])])
  positions = graph.constant(np.asarray(positions, np.int64)[0])
  like = equation.outvars[0].aval
  return graph.add('Gather', [flat, positions], like=like, axis=1)


def _gather_rows(graph, values, equation):
  """Gathers rows of a table: jnp.take(table, x, axis=0, mode='clip')."""
  table, indices = map(graph.broadcast, values)
  params, like = equation.params, equation.outvars[0].aval
  first = len(like.shape) - table.rank + 1  # The axes of a row are the last.
  rows = lax.GatherDimensionNumbers(
    offset_dims=tuple(range(first, len(like.shape))),
    collapsed_slice_dims=(0,),
    start_index_map=(0,),
  )
  if not (
    table.is_constant
    and params['dimension_numbers'] == rows
    and params['slice_sizes'] == (1, *table.shape[1:])
    and params['mode'] == lax.GatherScatterMode.CLIP
  ):
    raise elementwise.UnsupportedError('indices that are not constant')
  positions = graph.add_node(
    'Squeeze', [graph.name(indices), graph.int64([-1])]
  )
  for operator, bound in (('Max', 0), ('Min', table.shape[0] - 1)):
    bound = graph.constant(np.asarray(bound, indices.dtype))
    positions = graph.add_node(operator, [positions, bound])
  return graph.add('Gather', [graph.name(table), positions], like=like)


def _pad(graph, values, equation):
  value, padding_value = graph.broadcast(values[0]), values[1]
  padding = equation.params['padding_config']
  if any(interior for _, _, interior in padding):
    raise elementwise.UnsupportedError('padding between elements')
  channels_first = value.channels_first
  axes = graph_lib.NHWC_TO_NCHW if channels_first else range(value.rank)
  pads = [padding[axis][side] for side in (0, 1) for axis in axes]
  return graph.add(
    'Pad',
    [
      graph.name(value, channels_first=channels_first),
      graph.int64(pads),
      graph.name(padding_value),
    ],
    like=equation.outvars[0].aval,
    channels_first=channels_first,
  )


RULES: dict[str, elementwise.Rule] = {
  'broadcast_in_dim': _broadcast,
  'concatenate': _concatenate,
  'expand_dims': _reshape,
  'gather': _gather,
  'pad': _pad,
  'reshape': _reshape,
  'rev': _reverse,
  'slice': _slice,
  'squeeze': _reshape,
  'stack': _stack,
  'transpose': _transpose,
}
