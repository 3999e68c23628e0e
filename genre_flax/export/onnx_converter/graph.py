"""Builds an ONNX graph node by node.

JAX's images are [B, H, W, C]; ONNX's convolutions take [B, C, H, W]. Each value
keeps the layout in which it was computed and is transposed only where another
layout is needed. A network thus transposes its input once.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper

# ONNX Runtime supports this opset since version 1.14 (2023).
OPSET = 18
# The version of the file format that was released with the opset.
IR_VERSION = 8

NHWC_TO_NCHW = (0, 3, 1, 2)
NCHW_TO_NHWC = (0, 2, 3, 1)

# A shape of JAX, whose symbolic sizes are no ints.
Shape = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Value:
  """The ONNX counterpart of a JAX array.

  Arrays that JAX broadcasts are stored without repetition, since most ONNX
  operators broadcast their inputs.

  Attributes:
    shape: of the JAX array.
    stored_shape: the same, with 1 for each axis that is still to be broadcast.
      The axes of both shapes are in JAX's order.
    dtype: of the array.
    array: the content of a constant, of `stored_shape`; None otherwise.
    name: of the graph's value; empty for constants.
    channels_first: whether the value of that name is [B, C, H, W].
  """

  shape: Shape
  stored_shape: Shape
  dtype: np.dtype
  array: np.ndarray | None = None
  name: str = ''
  channels_first: bool = False

  @property
  def is_constant(self) -> bool:
    """Whether the value is independent of the input."""
    return self.array is not None

  def equals(self, scalar: float) -> bool:
    """Whether the value is a constant with one element, `scalar`."""
    return self.is_constant and self.array.size == 1 and self.array == scalar

  @property
  def rank(self) -> int:
    """Number of axes."""
    return len(self.shape)


def constant(array: Any, shape: Shape | None = None) -> Value:
  """A constant value.

  Args:
    array: the content.
    shape: to which JAX broadcasts the content; None for its own shape.
  """
  array = np.asarray(array)
  shape = array.shape if shape is None else tuple(shape)
  return Value(shape, array.shape, array.dtype, array=array)


def scalar(value: float, dtype: Any) -> Value:
  """A constant scalar, which broadcasts to any shape."""
  return constant(np.asarray(value, dtype))


def axis_index(axis: int, *, channels_first: bool) -> int:
  """The index of a JAX axis in the stored layout."""
  return NHWC_TO_NCHW.index(axis) if channels_first else axis


class Graph:
  """Nodes and constants, in topological order."""

  def __init__(self, arguments: Mapping[str, Any]):
    """Creates a graph.

    Args:
      arguments: the shape and the dtype of each input, by name; a symbolic
        first axis is the same for all.
    """
    self.inputs = [
      Value(tuple(each.shape), tuple(each.shape), np.dtype(each.dtype), name=n)
      for n, each in arguments.items()
    ]
    # Inputs of ReLU nodes, by the name of the output.
    self.relu_inputs: dict[str, Value] = {}
    self._nodes: list[onnx.NodeProto] = []
    self._constants: dict[str, onnx.TensorProto] = {}
    self._constant_names: dict[Any, str] = {}
    # Names of transposed values, by name and permutation.
    self._transposed: dict[tuple[str, Shape], str] = {}

  def add_node(
    self, operator: str, inputs: Sequence[str], **attributes: Any
  ) -> str:
    """Adds a node with one output, and returns the name of the output.

    Args:
      operator: of ONNX.
      inputs: names of values.
      **attributes: of the node.
    """
    name = f'{operator.lower()}_{len(self._nodes)}'
    self._nodes.append(
      helper.make_node(operator, list(inputs), [name], name, **attributes)
    )
    return name

  def add(
    self,
    operator: str,
    inputs: Sequence[str],
    *,
    like: Any,
    stored_shape: Shape | None = None,
    channels_first: bool = False,
    **attributes: Any,
  ) -> Value:
    """Adds a node with one output, and returns the output as a value.

    Args:
      operator: of ONNX.
      inputs: names of values.
      like: has the shape and the dtype of the output, as JAX knows it.
      stored_shape: of the output; None for the shape of `like`.
      channels_first: the layout of the output.
      **attributes: of the node.
    """
    shape = tuple(like.shape)
    return Value(
      shape,
      shape if stored_shape is None else tuple(stored_shape),
      np.dtype(like.dtype),
      name=self.add_node(operator, inputs, **attributes),
      channels_first=channels_first,
    )

  def name(self, value: Value, *, channels_first: bool = False) -> str:
    """The name of a value in the given layout, for the inputs of a node.

    Args:
      value: whose `stored_shape` the named value has.
      channels_first: the layout, for values with four axes.
    """
    if value.is_constant:
      array = value.array
      return self.constant(
        array.transpose(NHWC_TO_NCHW) if channels_first else array
      )
    if value.rank != 4 or value.channels_first == channels_first:
      return value.name
    order = NHWC_TO_NCHW if channels_first else NCHW_TO_NHWC
    key = (value.name, order)
    if key not in self._transposed:
      self._transposed[key] = self.add_node(
        'Transpose', [value.name], perm=order
      )
    return self._transposed[key]

  def broadcast(self, value: Value) -> Value:
    """The value with its full shape stored."""
    if value.stored_shape == value.shape:
      return value
    if value.is_constant and all(isinstance(s, int) for s in value.shape):
      return constant(np.broadcast_to(value.array, value.shape))
    inputs = [self.name(value), self._shape_name(value.shape)]
    return self.add('Expand', inputs, like=value)

  def _shape_name(self, shape: Shape) -> str:
    """The name of a shape; a symbolic size is that of the batch."""
    if all(isinstance(size, int) for size in shape):
      return self.int64(shape)
    batch = self.add_node('Shape', [self.inputs[0].name], start=0, end=1)
    sizes = [
      self.int64([size]) if isinstance(size, int) else batch for size in shape
    ]
    return self.add_node('Concat', sizes, axis=0)

  def int64(self, values: Sequence[int]) -> str:
    """The name of a constant vector, such as a shape or axes."""
    return self.constant(np.array(values, np.int64))

  def constant(self, array: np.ndarray) -> str:
    """The name of a constant; equal constants are stored once."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    key = (array.dtype.str, array.shape, array.tobytes())
    if key not in self._constant_names:
      name = f'constant_{len(self._constants)}'
      self._constants[name] = numpy_helper.from_array(array, name)
      self._constant_names[key] = name
    return self._constant_names[key]

  def to_model(
    self, outputs: dict[str, Value], *, batch: str
  ) -> onnx.ModelProto:
    """The finished model, without unused nodes and constants.

    Args:
      outputs: values by the names of the model's outputs.
      batch: name of the symbolic first axis.
    """
    for name, value in outputs.items():
      source = self.name(self.broadcast(value))
      self._nodes.append(helper.make_node('Identity', [source], [name]))
    nodes = _reachable(self._nodes, outputs)
    used = {name for node in nodes for name in node.input}

    def value_info(name, value):
      sizes = [s if isinstance(s, int) else batch for s in value.shape]
      dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
      return helper.make_tensor_value_info(name, dtype, sizes)

    graph = helper.make_graph(
      nodes,
      'genre_flax',
      [value_info(value.name, value) for value in self.inputs],
      [value_info(name, value) for name, value in outputs.items()],
      [c for name, c in self._constants.items() if name in used],
    )
    return helper.make_model(
      graph,
      ir_version=IR_VERSION,
      opset_imports=[helper.make_opsetid('', OPSET)],
    )


def _reachable(nodes, outputs):
  """The nodes that the outputs depend on, in order."""
  needed, kept = set(outputs), []
  for node in reversed(nodes):
    if needed.intersection(node.output):
      needed.update(node.input)
      kept.append(node)
  return kept[::-1]
