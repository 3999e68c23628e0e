"""What only moves numbers, as ONNX's; see `onnx_rules`."""

import math

from jax import lax
import numpy as np

from genre_flax.export import onnx_graph
from genre_flax.export import onnx_rules


def _broadcast(graph, values, operation):
  """Nothing is repeated: what ONNX puts together it fits by itself."""
  value = values[0]
  shape = operation.params['shape']
  kept = operation.params['broadcast_dimensions']
  held = [1] * len(shape)
  for axis, size in zip(kept, value.held, strict=True):
    held[axis] = size
  if value.is_constant:
    return onnx_graph.constant(value.array.reshape(held), shape)
  name = graph.name(value)
  added = [axis for axis in range(len(shape)) if axis not in kept]
  if added:
    axes = graph.constant(np.array(added, np.int64))
    return graph.add(
      'Unsqueeze', [name, axes], shape=shape, held=held, dtype=value.dtype
    )
  return onnx_graph.Value(tuple(shape), tuple(held), value.dtype, name=name)


def _reshape(graph, values, operation):
  if operation.params.get('dimensions') is not None:
    raise onnx_rules.UnsupportedError('a reshape with a transpose in it')
  shape = operation.outvars[0].aval.shape
  sizes = [size if isinstance(size, int) else -1 for size in shape]
  if sizes.count(-1) > 1:
    raise onnx_rules.UnsupportedError(
      'a reshape to several sizes that are not known'
    )
  return graph.add(
    'Reshape',
    [
      graph.name(graph.full(values[0])),
      graph.constant(np.array(sizes, np.int64)),
    ],
    shape=shape,
    dtype=values[0].dtype,
  )


def _transpose(graph, values, operation):
  return graph.add(
    'Transpose',
    [graph.name(graph.full(values[0]))],
    shape=operation.outvars[0].aval.shape,
    dtype=values[0].dtype,
    perm=operation.params['permutation'],
  )


def _concatenate(graph, values, operation):
  axis = operation.params['dimension']
  values = [graph.full(value) for value in values]
  first = any(value.is_first for value in values)
  like = operation.outvars[0].aval
  return graph.add(
    'Concat',
    [graph.name(value, first=first) for value in values],
    shape=like.shape,
    dtype=like.dtype,
    is_first=first,
    axis=onnx_graph.place(axis, first=first),
  )


def _slice(graph, values, operation):
  params, value = operation.params, graph.full(values[0])
  strides = params['strides'] or (1,) * value.rank
  cuts = [
    (start, end, axis, stride)
    for axis, (start, end, stride) in enumerate(
      zip(
        params['start_indices'], params['limit_indices'], strides, strict=True
      )
    )
    if (start, stride) != (0, 1) or end != value.shape[axis]
  ]
  if not cuts:
    return value
  if not all(isinstance(n, int) for cut in cuts for n in cut):
    raise onnx_rules.UnsupportedError('a part of the batch')
  starts, ends, axes, steps = (
    graph.constant(np.array(column, np.int64))
    for column in zip(
      *(
        (start, end, onnx_graph.place(axis, first=value.is_first), stride)
        for start, end, axis, stride in cuts
      ),
      strict=True,
    )
  )
  return graph.add(
    'Slice',
    [graph.name(value, first=value.is_first), starts, ends, axes, steps],
    shape=operation.outvars[0].aval.shape,
    dtype=value.dtype,
    is_first=value.is_first,
  )


def _reverse(graph, values, operation):
  value, axes = graph.full(values[0]), operation.params['dimensions']
  first = value.is_first
  places = [onnx_graph.place(axis, first=first) for axis in axes]
  if 0 in axes:
    raise onnx_rules.UnsupportedError('another order of the batch')
  # From the last, which is -1, to before the one that would be in front.
  ends = [-1 - value.shape[axis] for axis in axes]
  numbers = [[-1] * len(axes), ends, places, [-1] * len(axes)]
  return graph.add(
    'Slice',
    [
      graph.name(value, first=first),
      *(graph.constant(np.array(column, np.int64)) for column in numbers),
    ],
    shape=value.shape,
    dtype=value.dtype,
    is_first=first,
  )


def _gather(graph, values, operation):
  """Of known places, the same for each of the batch, as x[:, ::2] has them."""
  value, indices = graph.full(values[0]), values[1]
  params, like = operation.params, operation.outvars[0].aval
  dimensions = params['dimension_numbers']
  rest = value.shape[1:]
  is_whole = params['slice_sizes'][:1] == value.shape[:1]
  if not (
    indices.is_constant
    and is_whole
    and dimensions.offset_dims[:1] == (0,)
    and 0 not in dimensions.start_index_map
    and all(isinstance(size, int) for size in rest)
  ):
    raise onnx_rules.UnsupportedError('places that are not known beforehand')
  places = lax.gather(
    np.arange(math.prod(rest), dtype=np.int32).reshape(1, *rest),
    indices.array,
    dimensions,
    (1, *params['slice_sizes'][1:]),
    mode=params['mode'],
    fill_value=params['fill_value'],
  )
  flat = graph.add(
    'Reshape',
    [graph.name(value), graph.constant(np.array([-1, math.prod(rest)]))],
    shape=(),
    dtype=value.dtype,
  )
  return graph.add(
    'Gather',
    [flat.name, graph.constant(np.asarray(places, np.int64)[0])],
    shape=like.shape,
    dtype=like.dtype,
    axis=1,
  )


def _pad(graph, values, operation):
  value, filling = graph.full(values[0]), values[1]
  pads = operation.params['padding_config']
  if any(between for _, _, between in pads):
    raise onnx_rules.UnsupportedError('a pad between pixels')
  first = value.is_first
  order = onnx_graph.TO_FIRST if first else range(value.rank)
  sides = [pads[axis][side] for side in (0, 1) for axis in order]
  return graph.add(
    'Pad',
    [
      graph.name(value, first=first),
      graph.constant(np.array(sides, np.int64)),
      graph.name(filling),
    ],
    shape=operation.outvars[0].aval.shape,
    dtype=value.dtype,
    is_first=first,
  )


RULES: dict[str, onnx_rules.Rule] = {
  'broadcast_in_dim': _broadcast,
  'concatenate': _concatenate,
  'expand_dims': _reshape,
  'gather': _gather,
  'pad': _pad,
  'reshape': _reshape,
  'rev': _reverse,
  'slice': _slice,
  'squeeze': _reshape,
  'transpose': _transpose,
}
