"""Reads the weights in a PyTorch file, without PyTorch and without trust.

Such a file is a pickle, a program that may load and call anything. It is read
by `tensor_pickle`, which calls nothing; the numbers that follow it are taken
for what it announces.
"""

import io
import math
import os

from etils import epath
import numpy as np

from genre_flax.pretrained import tensor_pickle
from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001


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
  content = weight_files.read_bytes(epath.Path(path))
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
    found = tensor_pickle.Machine().run(file)
    if type(found) is not int or found != expected:
      got = found if type(found) is int else type(found).__name__
      raise ValueError(f'expected {expected} at its start, got {got}')
  if tensor_pickle.Machine().run(file)['little_endian'] is not True:
    raise ValueError('it was written on a big-endian machine')
  machine = tensor_pickle.Machine()
  tensors = machine.run(file)
  if not isinstance(tensors, dict) or not all(
    isinstance(tensor, tensor_pickle.Tensor) for tensor in tensors.values()
  ):
    raise ValueError('it holds no dictionary of tensors')
  keys = tensor_pickle.Machine().run(file)
  arrays, place = {}, file.tell()
  for key in keys:
    storage = machine.storages[key]
    size = int.from_bytes(content[place : place + 8], 'little')
    if size != storage.size:
      raise ValueError(f'storage {key} is of another size than announced')
    arrays[key] = np.frombuffer(content, storage.dtype, size, place + 8)
    place += 8 + arrays[key].nbytes
  _check_total(tensors, len(content))
  return {name: _take(tensor, arrays) for name, tensor in tensors.items()}


def _check_total(
  tensors: dict[str, tensor_pickle.Tensor], num_bytes: int
) -> None:
  """Many large views of one storage would make much of a small file."""
  total = sum(
    abs(math.prod(tensor.shape)) * tensor.storage.dtype.itemsize
    for tensor in tensors.values()
  )
  if total > 2 * num_bytes:
    raise ValueError(
      f'its tensors take {total:,} bytes, and the file has {num_bytes:,}'
    )


def _take(
  tensor: tensor_pickle.Tensor, arrays: dict[str, np.ndarray]
) -> np.ndarray:
  """A tensor as a contiguous array, of the numbers of its storage."""
  numbers = arrays[tensor.storage.key]
  last = tensor.offset + sum(
    (size - 1) * stride
    for size, stride in zip(tensor.shape, tensor.strides, strict=True)
  )
  # Without negative steps the first and the last element are the outermost.
  # A stride of 0 would make a huge array of a small file.
  if (
    min((tensor.offset, *tensor.strides)) < 0
    or min(tensor.shape, default=1) < 1
    or last >= len(numbers)
    or math.prod(tensor.shape) > len(numbers)
  ):
    raise ValueError(
      f'a tensor of shape {tensor.shape} and strides {tensor.strides} from'
      f' {tensor.offset} on exceeds its storage of {len(numbers)}'
    )
  return np.array(
    np.lib.stride_tricks.as_strided(
      numbers[tensor.offset :],
      tensor.shape,
      [stride * numbers.itemsize for stride in tensor.strides],
      writeable=False,
    )
  )
