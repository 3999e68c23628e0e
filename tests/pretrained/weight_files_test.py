"""Safetensors files and old PyTorch files, valid, damaged and hostile."""

import json
import os

from etils import epath
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors
from tests.support import torch_files


class TestSafetensors:
  @pytest.fixture(autouse=True)
  def library(self):
    pytest.importorskip(
      'safetensors', reason="needs: pip install -e '.[pretrained]'"
    )

  @pytest.fixture
  def path(self, tmp_path):
    return epath.Path(tmp_path / 'x.safetensors')

  def write(self, path, dtype, shape, data):
    header = {'dtype': dtype, 'shape': shape, 'data_offsets': [0, len(data)]}
    header = json.dumps({'a': header}).encode()
    path.write_bytes(len(header).to_bytes(8, 'little') + header + data)

  @pytest.mark.parametrize(
    ('dtype', 'numpy_dtype'),
    [
      ('F32', np.float32),
      ('F16', np.float16),
      ('F64', np.float64),
      ('BF16', jnp.bfloat16),
      ('I64', np.int64),
    ],
  )
  def test_arrays_become_float32(self, path, dtype, numpy_dtype):
    values = np.array([[1.0, -2.0, 4.0]], numpy_dtype)
    self.write(path, dtype, [1, 3], values.tobytes())
    array = weight_files.read_safetensors(path)['a']
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [[1, -2, 4]])

  def test_other_files_raise_an_error(self, path):
    def assert_refused(message):
      with pytest.raises(errors.InputError, match=message):
        weight_files.read_safetensors(path)

    assert_refused('there is no such file')
    self.write(path, 'BOOL', [1], b'\1')
    assert_refused('has the dtype BOOL')
    for content in (b'', b'no safetensors', b'\xff' * 64):
      path.write_bytes(content)
      assert_refused('not a valid safetensors file')
    path.unlink()
    os.mkfifo(path)
    assert_refused('a pipe or a device')


class _OsSystem:
  """Pickled as a call of `os.system`."""

  def __init__(self, command):
    self.command = command

  def __reduce__(self):
    return os.system, (self.command,)


class TestTorch:
  @pytest.fixture
  def path(self, tmp_path):
    return epath.Path(tmp_path / 'x.pth')

  @pytest.fixture
  def tensors(self):
    numbers = np.arange(24, dtype=np.float32)
    return {
      'plain': (numbers, 0, (2, 3, 4), (12, 4, 1)),
      'transposed': (numbers, 2, (3, 2), (1, 3)),
      'count': (np.array([5], np.int64), 0, (), ()),
    }

  def test_tensors_are_read_with_their_strides(self, path, tensors):
    torch_files.write(path, tensors)
    arrays = weight_files.read_torch(path)
    assert list(arrays) == ['plain', 'transposed', 'count']
    np.testing.assert_array_equal(
      arrays['plain'], np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    )
    np.testing.assert_array_equal(
      arrays['transposed'], [[2, 5], [3, 6], [4, 7]]
    )
    assert arrays['count'] == 5
    assert arrays['count'].dtype == np.int64

  def test_code_is_not_run(self, path, tensors, tmp_path):
    target = tmp_path / 'created'
    torch_files.write(path, tensors, extra=_OsSystem(f'touch {target}'))
    with pytest.raises(errors.InputError, match=r'references \w+\.system'):
      weight_files.read_torch(path)
    assert not target.exists()

  @pytest.mark.parametrize(
    ('offset', 'shape', 'strides', 'message'),
    [
      (20, (2, 3), (3, 1), 'exceeds its storage'),
      (0, (10**9,), (0,), 'exceeds its storage'),
      (0, (5,), (2**62,), 'exceeds its storage'),
      (0, (2,), (-(10**9),), 'invalid shape'),
      (0, (2**2000,) * 20_000, (1,), 'invalid shape'),
    ],
  )
  def test_views_outside_their_storage_raise_an_error(
    self, path, tensors, offset, shape, strides, message
  ):
    tensors['plain'] = (tensors['plain'][0], offset, shape, strides)
    torch_files.write(path, tensors)
    with pytest.raises(errors.InputError, match=message):
      weight_files.read_torch(path)

  def test_other_sizes_than_announced_raise_an_error(self, path, tensors):
    torch_files.write(path, tensors)
    content = path.read_bytes()
    size = (24).to_bytes(8, 'little')
    for damaged, message in (
      (content.replace(size, (10**15).to_bytes(8, 'little')), 'size'),
      (content + b'\0', 'bytes after the last storage'),
      *((content[:n], 'not a valid PyTorch') for n in (0, 30, 300, -1)),
    ):
      path.write_bytes(damaged)
      with pytest.raises(errors.InputError, match=message):
        weight_files.read_torch(path)

  def test_other_formats_raise_an_error(self, path, tensors):
    torch_files.write(path, tensors, magic=1234)
    with pytest.raises(errors.InputError, match='does not start with'):
      weight_files.read_torch(path)
    path.write_bytes(b'PK\x03\x04 a zip archive')
    with pytest.raises(errors.InputError, match='not a valid PyTorch file'):
      weight_files.read_torch(path)
