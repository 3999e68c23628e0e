"""Files in the format of PyTorch before version 1.6, without PyTorch."""

import collections
import io
import pickle

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C


class FloatStorage:
  """Stands for torch.FloatStorage."""


class LongStorage:
  """Stands for torch.LongStorage."""


def _rebuild_tensor_v2(*_):
  raise AssertionError('A reader must not call this.')


class _Tensor:
  def __init__(self, numbers, offset, shape, strides):
    self.arguments = numbers, offset, shape, strides, False, {}

  def __reduce__(self):
    return _rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
  def persistent_id(self, obj):
    if not isinstance(obj, np.ndarray):
      return None
    kind = LongStorage if obj.dtype == np.int64 else FloatStorage
    return 'storage', kind, str(id(obj)), 'cpu', obj.size, None


def write(path, tensors, *, magic=MAGIC, **extra):
  """Writes a state dict.

  Args:
    path: of the file.
    tensors: (storage, offset, shape, strides) by name; a storage is a float32
      or int64 array, which tensors can share.
    magic: number at the start.
    **extra: other values in the state dict.
  """
  file = io.BytesIO()
  system = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
  for part in (magic, 1001, system):
    pickle.dump(part, file, protocol=2)
  content = collections.OrderedDict(
    (name, _Tensor(*tensor)) for name, tensor in tensors.items()
  )
  _Pickler(file, protocol=2).dump(content | extra)
  storages = {str(id(tensor[0])): tensor[0] for tensor in tensors.values()}
  pickle.dump(list(storages), file, protocol=2)
  for storage in storages.values():
    file.write(storage.size.to_bytes(8, 'little') + storage.tobytes())
  # References to this module become references to PyTorch.
  here = f'c{__name__}\n'.encode()
  path.write_bytes(
    file.getvalue()
    .replace(here + b'_rebuild', b'ctorch._utils\n_rebuild')
    .replace(here, b'ctorch\n')
  )
