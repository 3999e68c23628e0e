"""Files of weights that hold numbers alone: of safetensors, or NumPy's .npz."""

import io
from typing import Any
import zipfile

from etils import epath
import ml_dtypes
import numpy as np

from genre_flax.runtime import errors
from genre_flax.runtime import regular_files

SAFETENSORS, NPZ = '.safetensors', '.npz'
# Of a file, and of what an .npz unpacks to.
MAX_BYTES = 1 << 34
# By safetensors' names.
_DTYPES = {
  'F64': np.dtype('<f8'),
  'F32': np.dtype('<f4'),
  'F16': np.dtype('<f2'),
  'BF16': np.dtype(ml_dtypes.bfloat16),
  'I64': np.dtype('<i8'),
  'I32': np.dtype('<i4'),
}


def read(path: epath.Path) -> dict[str, np.ndarray]:
  """Reads the arrays of a file; no code of it is run.

  Args:
    path: of an .npz, or else of safetensors.

  Returns:
    float32 arrays, by the names that the file has.

  Raises:
    InputError: it cannot be read, is too large, or holds anything but numbers.
  """
  if path.suffix == NPZ:
    kind, parse = 'an .npz', _parse_npz
  else:
    kind, parse = 'a file of safetensors', _parse_safetensors
  content = read_bytes(path)
  try:
    arrays = parse(content)
    return {name: array.astype(np.float32) for name, array in arrays.items()}
  except ImportError:
    raise errors.InputError(
      f"{path} needs safetensors: pip install -e '.[pretrained]'"
    ) from None
  except Exception as e:  # The bytes decide what is raised.
    words = str(e) or type(e).__name__
    raise errors.InputError(
      f'{path} is not {kind} that can be read: {words}'
    ) from e


def read_bytes(path: epath.Path, *, max_bytes: int = MAX_BYTES) -> bytes:
  """The bytes of a file of weights.

  Args:
    path: of the file.
    max_bytes: that it may have.

  Raises:
    InputError: it is missing, no regular file, too large, or not readable.
  """
  try:
    return regular_files.read(path, max_bytes=max_bytes)
  except regular_files.NotReadableError as e:
    if e.kind == regular_files.MISSING:
      raise errors.InputError(f'There is no file of weights {path}.') from None
    raise errors.InputError(
      f'The file of weights {path} cannot be read: {e}.'
    ) from None


def _parse_safetensors(content: bytes) -> dict[str, np.ndarray]:
  import safetensors

  return {
    name: _of_safetensors(**stored)
    for name, stored in safetensors.deserialize(content)
  }


def _of_safetensors(dtype: str, shape: list[int], data: Any) -> np.ndarray:
  if dtype not in _DTYPES:
    raise ValueError(
      f'it has numbers of the type {dtype}; expected {", ".join(_DTYPES)}'
    )
  return np.frombuffer(data, _DTYPES[dtype]).reshape(shape)


def _parse_npz(content: bytes) -> dict[str, np.ndarray]:
  stored = io.BytesIO(content)
  with zipfile.ZipFile(stored) as archive:
    size = sum(entry.file_size for entry in archive.infolist())
  if size > MAX_BYTES:
    raise ValueError(f'it would take {size:,} bytes, more than {MAX_BYTES:,}')
  with np.load(stored, allow_pickle=False) as arrays:
    return {name: _as_bfloat16(arrays[name]) for name in arrays.files}


def _as_bfloat16(array: np.ndarray) -> np.ndarray:
  """Two bytes without a type, as NumPy stores it, are bfloat16."""
  return array.view(ml_dtypes.bfloat16) if array.dtype == 'V2' else array
