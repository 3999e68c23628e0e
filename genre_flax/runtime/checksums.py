"""Checksums of arrays, JSON values and files, to detect damage.

XXH3 with 128 bits, which is faster than reading memory. It detects accidental
changes, and is no protection against forgery.
"""

import hashlib
import json
from typing import Any

from etils import epath
import numpy as np
import xxhash

ALGORITHM = 'xxh3_128'


def of_array(array: Any) -> str:
  """The checksum of an array's type, shape and values."""
  array = np.asarray(array)
  checksum = xxhash.xxh3_128(f'{array.dtype.name}{array.shape}'.encode())
  # As bytes, since bfloat16 does not support the buffer protocol.
  checksum.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
  return checksum.hexdigest()


def of_json(value: Any) -> str:
  """The checksum of a value for JSON, independent of the order of keys."""
  return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


def of_file(path: epath.PathLike) -> str:
  """The checksum of a file's bytes.

  Raises:
    OSError: The file cannot be read.
  """
  with epath.Path(path).open('rb') as file:
    return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
