"""Files in PyTorch's old format, written here by hand."""

import collections
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest

from genre_flax.pretrained import torch_weights
from genre_flax.runtime import errors


class _Storage:
  """Stands for a storage: pickled as a persistent id."""

  def __init__(self, key, array):
    self.key, self.array = key, array


class _Rebuilt:
  """Pickled as torch pickles a tensor."""

  def __init__(self, storage, offset, shape, strides):
    self.arguments = (storage, offset, shape, strides, False, {})

  def __reduce__(self):
    return sys.modules['torch._utils']._rebuild_tensor_v2, self.arguments


@pytest.fixture
def fake_torch(monkeypatch):
  """Modules of torch's names, so that pickle writes its references."""
  torch, utils = types.ModuleType('torch'), types.ModuleType('torch._utils')

  def _rebuild_tensor_v2(*_):
    raise AssertionError('the reader must not call this')

  _rebuild_tensor_v2.__module__ = 'torch._utils'
  _rebuild_tensor_v2.__qualname__ = '_rebuild_tensor_v2'
  utils._rebuild_tensor_v2 = _rebuild_tensor_v2
  for name in ('FloatStorage', 'LongStorage'):
    setattr(torch, name, type(name, (), {'__module__': 'torch'}))
  monkeypatch.setitem(sys.modules, 'torch', torch)
  monkeypatch.setitem(sys.modules, 'torch._utils', utils)
  return torch


def write(path, tensors, torch, *, magic=0x1950A86A20F9469CFC6C, extra=None):
  """Writes named (storage, offset, shape, strides) as torch.save did."""
  storages = {t[0].key: t[0] for t in tensors.values()}

  class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
      if not isinstance(obj, _Storage):
        return None
      kind = 'LongStorage' if obj.array.dtype == np.int64 else 'FloatStorage'
      size = obj.array.size
      return ('storage', getattr(torch, kind), obj.key, 'cpu', size, None)

  file = io.BytesIO()
  system = {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {}}
  for part in (magic, 1001, system):
    pickle.dump(part, file, protocol=2)
  content = collections.OrderedDict(
    (name, _Rebuilt(*tensor)) for name, tensor in tensors.items()
  )
  if extra is not None:
    content['extra'] = extra
  Pickler(file, protocol=2).dump(content)
  pickle.dump(list(storages), file, protocol=2)
  for storage in storages.values():
    file.write(storage.array.size.to_bytes(8, 'little'))
    file.write(storage.array.tobytes())
  path.write_bytes(file.getvalue())


@pytest.fixture
def tensors():
  numbers = _Storage('7', np.arange(24, dtype=np.float32))
  count = _Storage('8', np.array([5], np.int64))
  return {
    'plain': (numbers, 0, (2, 3, 4), (12, 4, 1)),
    'transposed': (numbers, 2, (3, 2), (1, 3)),
    'count': (count, 0, (), ()),
  }


def test_tensors_are_read_with_their_strides(tmp_path, fake_torch, tensors):
  write(tmp_path / 'a.pth', tensors, fake_torch)
  got = torch_weights.read(tmp_path / 'a.pth')
  assert list(got) == ['plain', 'transposed', 'count']
  np.testing.assert_array_equal(
    got['plain'], np.arange(24, dtype=np.float32).reshape(2, 3, 4)
  )
  np.testing.assert_array_equal(got['transposed'], [[2, 5], [3, 6], [4, 7]])
  assert got['count'] == 5
  assert got['count'].dtype == np.int64


class _Hostile:
  def __init__(self, target):
    self.target = target

  def __reduce__(self):
    return os.system, (f'touch {self.target}',)


def test_a_hostile_pickle_is_refused_by_name_and_not_run(
  tmp_path, fake_torch, tensors
):
  target = tmp_path / 'owned'
  path = tmp_path / 'bad.pth'
  write(path, tensors, fake_torch, extra=_Hostile(target))
  with pytest.raises(errors.InputError, match=r'(posix|nt|os)\.system'):
    torch_weights.read(path)
  assert not target.exists()


@pytest.mark.parametrize('share', [0.0, 0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, fake_torch, tensors, share):
  path = tmp_path / 'cut.pth'
  write(path, tensors, fake_torch)
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with pytest.raises(errors.InputError, match='cut.pth is no readable file'):
    torch_weights.read(path)


@pytest.mark.parametrize(
  'offset, shape, strides',
  [
    (20, (2, 3), (3, 1)),
    (0, (2,), (-(10**9),)),
    (23, (2, 2), (-1, 1)),
    (-1, (1,), (1,)),
    (0, (10**9,), (0,)),
  ],
)
def test_a_tensor_beyond_its_storage_is_refused(
  tmp_path, fake_torch, tensors, offset, shape, strides
):
  tensors['plain'] = (tensors['plain'][0], offset, shape, strides)
  write(tmp_path / 'a.pth', tensors, fake_torch)
  with pytest.raises(
    errors.InputError, match=r'exceeds its storage|take .* by'
  ):
    torch_weights.read(tmp_path / 'a.pth')


@pytest.mark.parametrize(
  'shape, message',
  [((2**2000,) * 20_000, 'is no number'), ((1,) * 65, '65 dimensions')],
)
def test_a_shape_that_would_take_long_to_multiply_is_refused(
  tmp_path, fake_torch, tensors, shape, message
):
  tensors['plain'] = (tensors['plain'][0], 0, shape, (1,))
  write(tmp_path / 'a.pth', tensors, fake_torch)
  with pytest.raises(errors.InputError, match=message):
    torch_weights.read(tmp_path / 'a.pth')


def test_another_format_is_refused(tmp_path, fake_torch, tensors):
  write(tmp_path / 'a.pth', tensors, fake_torch, magic=1234)
  with pytest.raises(errors.InputError, match='got 1234'):
    torch_weights.read(tmp_path / 'a.pth')
  (tmp_path / 'b.pth').write_bytes(b'PK\x03\x04 a zip archive')
  with pytest.raises(errors.InputError, match='no readable file'):
    torch_weights.read(tmp_path / 'b.pth')


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(errors.InputError, match='no file of weights .*none.pth'):
    torch_weights.read(tmp_path / 'none.pth')
