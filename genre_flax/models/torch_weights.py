"""Reads the weights in a PyTorch file, without PyTorch and without trust.

Such a file is a pickle, and a pickle may run any code when it is loaded. The
reader here admits tensors and the dictionary that holds them, and refuses
everything else by name.
"""

import collections
import dataclasses
import io
import math
import os
import pickle
from typing import Any

import numpy as np

from genre_flax.runtime import errors

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_DTYPES = {
  'FloatStorage': np.dtype('<f4'),
  'DoubleStorage': np.dtype('<f8'),
  'HalfStorage': np.dtype('<f2'),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
}


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A tensor whose numbers come later in the file."""

  key: str
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def read(self, storages: dict[str, np.ndarray]) -> np.ndarray:
    """The tensor as a contiguous array."""
    storage = storages[self.key]
    last = self.offset + sum(
      (size - 1) * stride
      for size, stride in zip(self.shape, self.strides, strict=True)
    )
    # Without negative steps the first and the last element are the outermost.
    # A stride of 0 would make a huge array of a small file.
    if (
      min((self.offset, *self.strides)) < 0
      or min(self.shape, default=1) < 1
      or last >= len(storage)
      or math.prod(self.shape) > len(storage)
    ):
      raise ValueError(
        f'a tensor of shape {self.shape} and strides {self.strides} from'
        f' {self.offset} on exceeds its storage of {len(storage)}'
      )
    return np.array(
      np.lib.stride_tricks.as_strided(
        storage[self.offset :],
        self.shape,
        [stride * storage.itemsize for stride in self.strides],
        writeable=False,
      )
    )


class _Unpickler(pickle.Unpickler):
  """Admits what a file of weights is made of."""

  def __init__(self, file: io.BufferedIOBase):
    super().__init__(file)
    self.dtypes: dict[str, np.dtype] = {}
    self.sizes: dict[str, int] = {}

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return self._rebuild_tensor
    if module == 'torch' and name in _DTYPES:
      return _DTYPES[name]
    raise errors.InputError(
      f'it asks to load {module}.{name}, which is no tensor; a file of weights'
      ' needs no such thing, and this one may be hostile'
    )

  def persistent_load(self, pid: Any) -> str:
    kind, dtype, key, _, size, *_ = pid
    if kind != 'storage' or not isinstance(dtype, np.dtype):
      raise ValueError(f'unknown kind of storage {pid!r}')
    self.dtypes[key], self.sizes[key] = dtype, int(size)
    return key

  @staticmethod
  def _rebuild_tensor(key, offset, shape, strides, *_):
    return _Tensor(str(key), int(offset), tuple(shape), tuple(strides))


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
    with open(path, 'rb') as file:
      return _read(file)
  except errors.InputError as e:
    raise errors.InputError(f'{path} is refused: {e}.') from None
  except FileNotFoundError:
    raise errors.InputError(f'There is no file of weights {path}.') from None
  except Exception as e:  # The bytes decide what is raised.
    raise errors.InputError(
      f'{path} is no readable file of PyTorch weights ({e!r}); it may be'
      ' truncated, or of another version. Install its package anew.'
    ) from e


def _read(file: io.BufferedReader) -> dict[str, np.ndarray]:
  for expected in (_MAGIC_NUMBER, _PROTOCOL_VERSION):
    found = _Unpickler(file).load()
    if found != expected:
      raise ValueError(f'expected {expected} at its start, got {found!r}')
  system = _Unpickler(file).load()
  if not system['little_endian']:
    raise ValueError('it was written on a big-endian machine')
  unpickler = _Unpickler(file)
  tensors = unpickler.load()
  keys = _Unpickler(file).load()
  storages = {}
  for key in keys:
    size = int.from_bytes(file.read(8), 'little')
    if size != unpickler.sizes[key]:
      raise ValueError(f'storage {key} is of another size than announced')
    dtype = unpickler.dtypes[key]
    content = file.read(size * dtype.itemsize)
    storages[key] = np.frombuffer(content, dtype, count=size)
  return {name: tensor.read(storages) for name, tensor in tensors.items()}
