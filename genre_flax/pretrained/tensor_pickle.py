"""Reads pickles of tensors with a machine that calls nothing.

A pickle is a program for a small stack machine. The one here knows the
instructions that a dictionary of tensors is made of, keeps what they make as
plain values, and refuses all others by name.
"""

import collections
from collections.abc import Callable
import dataclasses
import io
import pickletools
from typing import Any

import numpy as np

from genre_flax.runtime import errors

_DTYPES = {
  'FloatStorage': np.dtype('<f4'),
  'DoubleStorage': np.dtype('<f8'),
  'HalfStorage': np.dtype('<f2'),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
}
_MARK = object()
# Of numbers and of dimensions, as PyTorch and NumPy have them.
_MAX_NUMBER, _MAX_DIMENSIONS = 2**63 - 1, 64


@dataclasses.dataclass(frozen=True, slots=True)
class _Global:
  """A name that the file asks to load."""

  module: str
  name: str


_DICT = _Global('collections', 'OrderedDict')
_TENSOR = _Global('torch._utils', '_rebuild_tensor_v2')
_GLOBALS = (_DICT, _TENSOR, *(_Global('torch', name) for name in _DTYPES))


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
  """Numbers that come later in the file."""

  key: str
  dtype: np.dtype
  size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
  """A view of a storage; offset, shape and strides in numbers."""

  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class Machine:
  """Runs the instructions of one pickle.

  Attributes:
    storages: that tensors refer to, by key.
  """

  def __init__(self):
    self.storages: dict[str, Storage] = {}
    self._stack: list[Any] = []
    self._memo: dict[int, Any] = {}

  def run(self, file: io.BytesIO) -> Any:
    """The value that the pickle at the file's position stands for."""
    for instruction, argument, _ in pickletools.genops(file):
      if instruction.name == 'STOP':
        return self.pop(1)[0]
      run = _INSTRUCTIONS.get(instruction.name)
      if run is None:
        raise errors.InputError(
          f'it has the instruction {instruction.name}, which no file of weights'
          ' needs; it is of another kind, or hostile'
        )
      run(self, argument)
    raise ValueError('it has no end')

  def push(self, value: Any) -> None:
    """Puts a value on the stack."""
    self._stack.append(value)

  def pop_to_mark(self) -> list[Any]:
    """Takes the values above the last mark, and the mark."""
    place = len(self._stack) - 1
    while self._stack[place] is not _MARK:
      place -= 1
      if place < 0:
        raise ValueError('a mark is missing')
    values = self._stack[place + 1 :]
    del self._stack[place:]
    return values

  def put(self, place: int) -> None:
    """Remembers the last value, which stays."""
    self._memo[place] = self._stack[-1]

  def get(self, place: int) -> None:
    """Puts a value that is remembered on the stack."""
    self.push(self._memo[place])

  def pop(self, number: int) -> list[Any]:
    """The last values, in the order they were pushed in."""
    values = self._stack[-number:]
    if len(values) < number:
      raise ValueError('a value is missing')
    del self._stack[-number:]
    return values

  def set_items(self, values: list[Any]) -> None:
    """Adds names and values in turn to the dictionary below."""
    target = self._stack[-1]
    if not isinstance(target, dict) or len(values) % 2:
      raise ValueError('items are set on what is no dictionary')
    for name, value in zip(values[::2], values[1::2], strict=True):
      if not isinstance(name, str):
        raise ValueError(f'a key is {type(name).__name__}, expected a name')
      target[name] = value

  def append(self, values: list[Any]) -> None:
    """Adds values to the list below."""
    target = self._stack[-1]
    if not isinstance(target, list):
      raise ValueError('items are appended to what is no list')
    target.extend(values)

  def load(self, names: str) -> None:
    """Takes 'module name' for what it stands for, if that is known."""
    wanted = _Global(*names.split(' ', 1))
    if wanted not in _GLOBALS:
      raise errors.InputError(
        f'it asks to load {wanted.module}.{wanted.name}, which is no tensor; a'
        ' file of weights needs no such thing, and this one may be hostile'
      )
    self.push(wanted)

  def reduce(self, _: None) -> None:
    """Makes what a function would make of its arguments."""
    function, arguments = self.pop(2)
    if function == _DICT and arguments == ():
      self.push(collections.OrderedDict())
      return
    if function != _TENSOR:
      raise ValueError('it calls what makes no tensor')
    storage, offset, shape, strides, *_ = arguments
    if not isinstance(storage, Storage):
      raise ValueError('a tensor has no storage')
    for number in (offset, *shape, *strides):
      if type(number) is not int or abs(number) > _MAX_NUMBER:
        raise ValueError('a shape, a stride or an offset is no number')
    if len(shape) > _MAX_DIMENSIONS:
      raise ValueError(f'a tensor has {len(shape)} dimensions')
    self.push(Tensor(storage, offset, tuple(shape), tuple(strides)))

  def build(self, _: None) -> None:
    """Drops the attributes that an object would get."""
    # The attributes of a dictionary: PyTorch's notes on versions.
    self.pop(1)
    if not isinstance(self._stack[-1], dict):
      raise ValueError('attributes are set on what is no dictionary')

  def refer(self, _: None) -> None:
    """Makes a storage of what the file says of it."""
    kind, numbers, key, _, size, *_ = self.pop(1)[0]
    if (
      kind != 'storage'
      or not isinstance(numbers, _Global)
      or numbers.name not in _DTYPES
      or not isinstance(key, str)
      or type(size) is not int
    ):
      raise ValueError('unknown kind of storage')
    storage = Storage(key, _DTYPES[numbers.name], size)
    if self.storages.setdefault(key, storage) != storage:
      raise ValueError(f'storage {key} is announced twice, and differs')
    self.push(storage)


def _push(value: Any) -> Callable[[Machine, Any], None]:
  return lambda machine, _: machine.push(value)


def _push_argument(machine: Machine, argument: Any) -> None:
  machine.push(argument)


def _check_protocol(machine: Machine, version: int) -> None:
  del machine
  if version != 2:
    raise ValueError(f'expected pickle protocol 2, got {version}')


# What torch.save writes of a dictionary of tensors, and no more.
_INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
  'PROTO': _check_protocol,
  'MARK': _push(_MARK),
  'NONE': _push(None),
  'NEWTRUE': _push(True),
  'NEWFALSE': _push(False),
  'EMPTY_TUPLE': _push(()),
  'EMPTY_DICT': lambda machine, _: machine.push({}),
  'EMPTY_LIST': lambda machine, _: machine.push([]),
  'BININT': _push_argument,
  'BININT1': _push_argument,
  'BININT2': _push_argument,
  'LONG1': _push_argument,
  'BINUNICODE': _push_argument,
  'BINPUT': Machine.put,
  'LONG_BINPUT': Machine.put,
  'BINGET': Machine.get,
  'LONG_BINGET': Machine.get,
  'TUPLE': lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
  'TUPLE1': lambda machine, _: machine.push(tuple(machine.pop(1))),
  'TUPLE2': lambda machine, _: machine.push(tuple(machine.pop(2))),
  'TUPLE3': lambda machine, _: machine.push(tuple(machine.pop(3))),
  'SETITEM': lambda machine, _: machine.set_items(machine.pop(2)),
  'SETITEMS': lambda machine, _: machine.set_items(machine.pop_to_mark()),
  'APPEND': lambda machine, _: machine.append(machine.pop(1)),
  'APPENDS': lambda machine, _: machine.append(machine.pop_to_mark()),
  'GLOBAL': Machine.load,
  'REDUCE': Machine.reduce,
  'BUILD': Machine.build,
  'BINPERSID': Machine.refer,
}
