"""Reading weights from safetensors files and old PyTorch files.

No code in a file is run.
"""

import collections
from collections.abc import Callable
import io
import math
import pickle
import pickletools
from typing import Any, NamedTuple

from etils import epath
import ml_dtypes
import numpy as np
import safetensors

from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

MAX_BYTES = 1 << 34
_SAFETENSORS_DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
}
_TORCH_DTYPES = {
  'FloatStorage': np.dtype('<f4'),
  'LongStorage': np.dtype('<i8'),
}
# The first two pickles of an old PyTorch file: magic number and version.
_TORCH_HEADER = (0x1950A86A20F9469CFC6C, 1001)
_MAX_MEMO_INDEX = 1 << 20
_MAX_TUPLES = 10_000

_Arrays = dict[str, np.ndarray]


def read_safetensors(path: epath.Path) -> _Arrays:
  """Reads a safetensors file as float32 arrays.

  Raises:
    InputError: the file is missing, too large or damaged, or has another dtype
      than floats and integers.
  """

  def parse(content):
    return {
      name: _parse_safetensor(**stored).astype(np.float32)
      for name, stored in safetensors.deserialize(content)
    }

  return _read(path, 'safetensors file', parse)


def read_torch(path: epath.Path) -> _Arrays:
  """Reads a state dict in the file format of PyTorch before version 1.6.

  Such a file consists of five pickles (magic number, version, system, tensors,
  keys of storages) and the storages; see `_legacy_load` in PyTorch's
  `torch/serialization.py`.

  Returns:
    The arrays by name, in the file's order and dtypes.

  Raises:
    InputError: the file is missing, too large, truncated or of another format,
      or its pickles contain anything but tensors.
  """
  return _read(path, 'PyTorch file', _parse_torch)


def _read(
  path: epath.Path, kind: str, parse: Callable[[bytes], _Arrays]
) -> _Arrays:
  try:
    content = regular_files.read(path, max_bytes=MAX_BYTES)
  except regular_files.NotReadableError as e:
    raise errors.InputError(
      f'The weight file {path} cannot be read: {e}.'
    ) from None
  try:
    return parse(content)
  except Exception as e:  # The type depends on the damage.
    reason = str(e) or type(e).__name__
    raise errors.InputError(f'{path} is not a valid {kind}: {reason}') from e


def _parse_safetensor(dtype: str, shape: list[int], data: Any) -> np.ndarray:
  if dtype not in _SAFETENSORS_DTYPES:
    raise ValueError(
      f'it has the dtype {dtype}; expected {", ".join(_SAFETENSORS_DTYPES)}'
    )
  return np.frombuffer(data, _SAFETENSORS_DTYPES[dtype]).reshape(shape)


class _Tensor(NamedTuple):
  """View of a storage (key, dtype, size); offset and strides in numbers."""

  storage: tuple[str, np.dtype, int]
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
  """Unpickler that loads dictionaries of tensors and no other types."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) == ('collections', 'OrderedDict'):
      return collections.OrderedDict
    if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
      return lambda *arguments: _Tensor(*arguments[:4])
    if module == 'torch' and name in _TORCH_DTYPES:
      return name
    raise ValueError(f'its pickle references {module}.{name}, not a tensor')

  def persistent_load(self, pid: Any) -> tuple[str, np.dtype, int]:
    match pid:
      case ('storage', str(kind), str(key), _, int(size), None):
        return key, _TORCH_DTYPES[kind], size
    raise ValueError('a storage has an unexpected description')


def _unpickle(file: io.BytesIO) -> Any:
  """Loads the next pickle of a file."""
  start, num_tuples = file.tell(), 0
  # The unpickler allocates memory for any announced length and memo index, and
  # Python crashes on the hash of deeply nested tuples. genops raises an error
  # for lengths that exceed the file.
  for opcode, argument, _ in pickletools.genops(file):
    num_tuples += opcode.name.startswith('TUPLE')
    if num_tuples > _MAX_TUPLES or (
      opcode.name.endswith('PUT') and argument > _MAX_MEMO_INDEX
    ):
      raise ValueError('its pickle has too many tuples or memo entries')
  file.seek(start)
  return _Unpickler(file).load()


def _parse_torch(content: bytes) -> _Arrays:
  file = io.BytesIO(content)
  for expected in _TORCH_HEADER:
    if _unpickle(file) != expected:
      raise ValueError(f'it does not start with {_TORCH_HEADER}')
  if _unpickle(file)['little_endian'] is not True:
    raise ValueError('it is big-endian')
  tensors = _unpickle(file)
  if not all(
    isinstance(name, str) and isinstance(tensor, _Tensor)
    for name, tensor in tensors.items()
  ):
    raise ValueError('it is not a dictionary of tensors')
  storages = {tensor.storage[0]: tensor.storage for tensor in tensors.values()}
  keys, arrays = _unpickle(file), {}
  for key in keys:
    _, dtype, size = storages[key]
    if int.from_bytes(file.read(8), 'little') != size:
      raise ValueError(f'storage {key} has an unexpected size')
    data = file.read(size * dtype.itemsize)
    arrays[storages[key]] = np.frombuffer(data, dtype, size)
  if file.read(1):
    raise ValueError('it has bytes after the last storage')
  return {
    name: _take_view(tensor, arrays[tensor.storage])
    for name, tensor in tensors.items()
  }


def _take_view(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
  _, offset, shape, strides = tensor
  if len(shape) > 8 or not all(
    type(n) is int and n >= 0 for n in (offset, *shape, *strides)
  ):
    raise ValueError('a tensor has an invalid shape, stride or offset')
  last = offset + sum(
    (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
  )
  # A stride of 0 repeats numbers, so the size is checked too.
  if 0 in shape or max(last + 1, math.prod(shape)) > len(numbers):
    raise ValueError(
      f'a tensor of shape {shape} and strides {strides} at {offset} exceeds its'
      f' storage of {len(numbers)} numbers'
    )
  return np.lib.stride_tricks.as_strided(
    numbers[offset:],
    shape,
    [stride * numbers.itemsize for stride in strides],
    writeable=False,
  )
