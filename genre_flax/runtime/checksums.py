"""Digests that tell whether what is read is what was written.

They are of XXH3 with 128 bits, which hashes faster than memory is read. They
find damage, be it one bit; they are no protection against a person who forges
both.
"""

import json
from typing import Any

from etils import epath
import numpy as np
import xxhash

ALGORITHM = 'xxh3_128'
_CHUNK_BYTES = 1 << 22


def of_array(array: Any) -> str:
  """The digest of an array's type, shape and numbers."""
  array = np.asarray(array)
  digest = xxhash.xxh3_128(f'{array.dtype.name}{array.shape}'.encode())
  # As bytes: bfloat16 has no buffer of its own.
  digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
  return digest.hexdigest()


def of_json(value: Any) -> str:
  """The digest of a value that JSON can hold, whatever its keys' order."""
  return xxhash.xxh3_128_hexdigest(json.dumps(value, sort_keys=True).encode())


def of_file(path: epath.PathLike) -> str:
  """The digest of a file's bytes.

  Raises:
    OSError: it cannot be read.
  """
  digest = xxhash.xxh3_128()
  with epath.Path(path).open('rb') as file:
    while chunk := file.read(_CHUNK_BYTES):
      digest.update(chunk)
  return digest.hexdigest()
