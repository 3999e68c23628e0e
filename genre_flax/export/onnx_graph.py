"""An ONNX graph as it is put together, node by node.

JAX's pictures are [B, H, W, C], ONNX's convolutions take [B, C, H, W]. A value
of four axes is kept in the order in which it was made, and turned where an
operation asks for the other, so that of a network's pictures only the first is
ever turned.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper

# Of ONNX's operations; ONNX Runtime knows it since 1.14 (2023).
OPSET = 18
# Of the file's form; the one that came with the operations.
IR_VERSION = 8

TO_FIRST = (0, 3, 1, 2)
TO_LAST = (0, 2, 3, 1)

# As JAX has it; a size that is not known is no int.
Shape = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Value:
  """What stands for an array of JAX's.

  Attributes:
    shape: of the array.
    held: of what is held in its place: of each axis its size, or 1 where the
      array is the same all along it. Both in the order of JAX.
    dtype: of both.
    array: the numbers, where they are known, of the shape `held`.
    name: in the graph, where they are not.
    is_first: whether what has the name has its channels first.
  """

  shape: Shape
  held: Shape
  dtype: np.dtype
  array: np.ndarray | None = None
  name: str = ''
  is_first: bool = False

  @property
  def is_constant(self) -> bool:
    """Whether the numbers are known."""
    return self.array is not None

  def is_number(self, number: float) -> bool:
    """Whether all of it is known to be one number."""
    return self.is_constant and self.array.size == 1 and self.array == number

  @property
  def rank(self) -> int:
    """Number of axes."""
    return len(self.shape)


def constant(array: Any, shape: Shape | None = None) -> Value:
  """The value of known numbers.

  Args:
    array: the numbers.
    shape: of the array that they stand for; None for their own.
  """
  array = np.asarray(array)
  if shape is None:
    shape = array.shape
  return Value(tuple(shape), array.shape, array.dtype, array=array)


def number(value: float, dtype: Any) -> Value:
  """The value of one number, which fits any shape."""
  return constant(np.asarray(value, dtype))


def place(axis: int, *, first: bool) -> int:
  """Where an axis of JAX's is."""
  return TO_FIRST.index(axis) if first else axis


class Graph:
  """Nodes and constants, in order."""

  def __init__(self, name: str, shape: Shape, dtype: Any):
    """Begins a graph with its one input.

    Args:
      name: of the input.
      shape: of it; the first axis may be of any size.
      dtype: of it.
    """
    self.input = Value(tuple(shape), tuple(shape), np.dtype(dtype), name=name)
    self._nodes: list[onnx.NodeProto] = []
    self._constants: dict[str, onnx.TensorProto] = {}
    self._by_content: dict[Any, str] = {}
    # What was turned already, by name and order.
    self._turns: dict[tuple[str, Shape], str] = {}
    # By the name of a maximum with 0, what it is of.
    self.relu_of: dict[str, Value] = {}

  def add(
    self,
    operation: str,
    inputs: Sequence[str],
    *,
    shape: Shape,
    dtype: Any,
    held: Shape | None = None,
    is_first: bool = False,
    **attributes: Any,
  ) -> Value:
    """Adds a node with one output.

    Args:
      operation: ONNX's name of it.
      inputs: names of values; '' for one that is left out.
      shape: of the result, in the order of JAX.
      dtype: of the result.
      held: of the result; None for `shape`.
      is_first: whether the result has its channels first.
      **attributes: of the node.

    Returns:
      The result.
    """
    name = f'{operation.lower()}_{len(self._nodes)}'
    self._nodes.append(
      helper.make_node(operation, list(inputs), [name], name, **attributes)
    )
    shape = tuple(shape)
    held = shape if held is None else tuple(held)
    return Value(shape, held, np.dtype(dtype), name=name, is_first=is_first)

  def name(self, value: Value, *, first: bool = False) -> str:
    """The name of what a value holds, with the channels where they are wanted.

    Args:
      value: to be an input of a node.
      first: whether to have the channels first; of values of four axes.
    """
    if value.is_constant:
      array = value.array
      return self.constant(array.transpose(TO_FIRST) if first else array)
    if value.rank != 4:
      return value.name
    if value.is_first == first:
      return value.name
    order = TO_FIRST if first else TO_LAST
    return self._turned(value.name, order)

  def _turned(self, name, order):
    if (name, order) not in self._turns:
      self._turns[name, order] = self.add(
        'Transpose', [name], shape=(), dtype=np.float32, perm=order
      ).name
    return self._turns[name, order]

  def full(self, value: Value) -> Value:
    """The value, with all that it stands for held."""
    if value.held == value.shape:
      return value
    if value.is_constant and all(isinstance(s, int) for s in value.shape):
      return constant(np.broadcast_to(value.array, value.shape))
    return self.add(
      'Expand',
      [self.name(value), self._sizes(value.shape)],
      shape=value.shape,
      dtype=value.dtype,
    )

  def _sizes(self, shape: Shape) -> str:
    """The name of a shape; a size that is not known is that of the batch."""
    if all(isinstance(size, int) for size in shape):
      return self.constant(np.array(shape, np.int64))
    batch = self.add(
      'Shape', [self.input.name], shape=(1,), dtype=np.int64, start=0, end=1
    ).name
    parts = [
      self.constant(np.array([size], np.int64))
      if isinstance(size, int)
      else batch
      for size in shape
    ]
    return self.add(
      'Concat', parts, shape=(len(shape),), dtype=np.int64, axis=0
    ).name

  def constant(self, array: np.ndarray) -> str:
    """The name of known numbers; the same for the same numbers."""
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    key = (array.dtype.str, array.shape, array.tobytes())
    if key not in self._by_content:
      name = f'constant_{len(self._constants)}'
      self._constants[name] = numpy_helper.from_array(array, name)
      self._by_content[key] = name
    return self._by_content[key]

  def to_model(
    self, outputs: dict[str, Value], *, batch: str
  ) -> onnx.ModelProto:
    """The finished model.

    Args:
      outputs: results by the names they are to have.
      batch: name of the first axis.
    """
    for name, value in outputs.items():
      self._nodes.append(
        helper.make_node('Identity', [self.name(self.full(value))], [name])
      )
    nodes = _needed(self._nodes, outputs)
    used = {name for node in nodes for name in node.input}

    def describe(name, value):
      sizes = [s if isinstance(s, int) else batch for s in value.shape]
      kind = helper.np_dtype_to_tensor_dtype(value.dtype)
      return helper.make_tensor_value_info(name, kind, sizes)

    graph = helper.make_graph(
      nodes,
      'genre_flax',
      [describe(self.input.name, self.input)],
      [describe(name, value) for name, value in outputs.items()],
      [c for name, c in self._constants.items() if name in used],
    )
    return helper.make_model(
      graph,
      ir_version=IR_VERSION,
      opset_imports=[helper.make_opsetid('', OPSET)],
    )


def _needed(nodes, outputs):
  """The nodes that the outputs depend on, in order."""
  wanted, kept = set(outputs), []
  for node in reversed(nodes):
    if wanted.intersection(node.output):
      wanted.update(node.input)
      kept.append(node)
  return kept[::-1]
