"""Files that hold numbers, and files that do not."""

import io
import json
import os
import zipfile

from etils import epath
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.pretrained import weight_files
from genre_flax.runtime import errors

pytest.importorskip(
  'safetensors', reason="needs: pip install -e '.[pretrained]'"
)


def npz(header=None, **entries):
  """An archive of arrays, or of one whose header is as given."""
  file = io.BytesIO()
  if header is None:
    np.savez(file, **entries)
  else:
    stored = header.encode('latin-1')
    with zipfile.ZipFile(file, 'w') as archive:
      archive.writestr(
        'x.npy',
        b'\x93NUMPY\x01\x00' + len(stored).to_bytes(2, 'little') + stored,
      )
  return file.getvalue()


def header(shape):
  return f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n"


def of_safetensors(dtype, shape, data):
  described = {'dtype': dtype, 'shape': shape, 'data_offsets': [0, len(data)]}
  start = json.dumps({'a': described}).encode()
  return len(start).to_bytes(8, 'little') + start + data


def encrypted(content):
  """An archive whose first entry says that it is encrypted."""
  content = bytearray(content)
  content[content.index(b'PK\x01\x02') + 8] = content[6] = 1
  return bytes(content)


BAD = {
  'of a trillion numbers': npz(header((10**12,))),
  'of more numbers than can be counted': npz(header((10**30,))),
  'of a header that is cut': npz("{'descr': '<f4', 'fortran"),
  'of a header that is indented': npz('  {\n' + header((1,))),
  'of strings': npz(x=np.array(['a'])),
  'encrypted': encrypted(npz(x=np.zeros(3))),
  'nothing': b'',
  'text': b'no archive',
  'no directory': b'PK\x05\x06' * 9,
}


@pytest.mark.parametrize('kind', BAD)
def test_what_is_no_npz_is_told(tmp_path, kind):
  path = epath.Path(tmp_path / 'x.npz')
  path.write_bytes(BAD[kind])
  with pytest.raises(errors.InputError, match='x.npz is not an .npz'):
    weight_files.read(path)


def test_an_npz_runs_no_code(tmp_path):
  path = epath.Path(tmp_path / 'x.npz')
  path.write_bytes(npz(x=np.array([print], dtype=object)))
  with pytest.raises(errors.InputError, match='allow_pickle=False'):
    weight_files.read(path)


def test_a_missing_file_is_told(tmp_path):
  for name in ('y.npz', 'y.safetensors'):
    with pytest.raises(errors.InputError, match='There is no file of weights'):
      weight_files.read(epath.Path(tmp_path / name))


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
@pytest.mark.parametrize('name', ['x.npz', 'x.safetensors'])
def test_numbers_of_any_usual_type_become_float32(
  tmp_path, name, dtype, numpy_dtype
):
  values = np.array([[1.0, -2.0, 4.0]], numpy_dtype)
  path = epath.Path(tmp_path / name)
  if path.suffix == '.npz':
    np.savez(path, a=values)
  else:
    path.write_bytes(of_safetensors(dtype, [1, 3], values.tobytes()))
  arrays = weight_files.read(path)
  assert arrays['a'].dtype == np.float32
  np.testing.assert_array_equal(arrays['a'], [[1, -2, 4]])


def test_other_types_are_named(tmp_path):
  path = epath.Path(tmp_path / 'x.safetensors')
  path.write_bytes(of_safetensors('BOOL', [1], b'\1'))
  with pytest.raises(errors.InputError, match='numbers of the type BOOL'):
    weight_files.read(path)


def test_a_pipe_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'x.safetensors')
  with pytest.raises(errors.InputError, match='a pipe or a device'):
    weight_files.read(epath.Path(tmp_path / 'x.safetensors'))
