"""Caches of decoded posters, so that later epochs skip reading and decoding.

A cache is in the memory of one process, or in a memory-mapped file that all
runs on a machine share.
"""

from collections.abc import Callable
import os
import shutil
import zlib

from absl import logging
from etils import epath
import numpy as np
import PIL
import psutil

from genre_flax.data import image_decoding
from genre_flax.datasets.posters import text_features
from genre_flax.runtime import checksums
from genre_flax.runtime import errors

Example = dict[str, np.ndarray]
# Largest share of the free memory or disk space that a new cache may take.
_MAX_SHARE = 0.8


def check_fields(example: Example, blank: Example) -> None:
  """Raises ValueError unless an example has the fields of a blank one."""
  if example.keys() != blank.keys():
    raise ValueError(
      f'An example has the fields {sorted(example)}; expected'
      f' {sorted(blank)}, those of `blank_example`.'
    )


class MemoryCache:
  """Decoded examples in one array per field; safe to use from threads."""

  def __init__(self, num_examples: int, blank: Example):
    """Allocates an empty cache.

    Args:
      num_examples: number of examples of the split.
      blank: an example, for the shapes and dtypes of the fields.

    Raises:
      InputError: the cache does not fit into the host's free memory.
    """
    height, width = blank['image'].shape[:2]
    _require_space(
      num_examples * sum(value.nbytes for value in blank.values()),
      free=psutil.virtual_memory().available,
      kind='memory',
      use=f'memory for {num_examples} posters of {height} x {width}',
      remedy='Set --config.dataset.cache=none or =disk, or choose a smaller'
      ' image size.',
    )
    # Pages take no memory before they are written.
    self._fields = {
      name: np.empty((num_examples, *value.shape), value.dtype)
      for name, value in blank.items()
    }
    self._is_complete = np.zeros(num_examples, bool)

  def get(self, index: int, decode: Callable[[int], Example]) -> Example:
    """The example at `index`; `decode(index)` if it is not cached yet."""
    # Two threads may decode the same poster once; they write the same values.
    if not self._is_complete[index]:
      example = decode(index)
      check_fields(example, self._fields)
      for name, values in self._fields.items():
        values[index] = example[name]
      self._is_complete[index] = True
    return {name: values[index] for name, values in self._fields.items()}


class DiskCache:
  """Decoded examples in a file that processes and threads share.

  Each row has a checksum, which each process verifies once. Rows that are
  missing or incomplete are decoded.
  """

  def __init__(
    self,
    path: epath.PathLike,
    *,
    num_examples: int,
    blank: Example,
  ):
    """Opens the file, or creates an empty one.

    Args:
      path: the file, on a local disk.
      num_examples: number of examples of the split.
      blank: an example, for the shapes and dtypes of the fields.

    Raises:
      InputError: the disk is too full, or the file cannot be created.
    """
    self._blank = blank
    row = np.dtype(
      [
        *((name, value.dtype, value.shape) for name, value in blank.items()),
        ('checksum', np.uint32),
      ]
    )
    path = os.fspath(path)
    try:
      os.makedirs(os.path.dirname(path), exist_ok=True)
      _allocate(path, num_examples * row.itemsize)
      self._rows = np.asarray(np.memmap(path, row, 'r+', shape=num_examples))
    except OSError as e:
      raise errors.InputError(
        f"The file {path} of config.dataset.cache='disk' cannot be created:"
        f' {e.strerror or e}. Choose a folder on a local disk with'
        ' --config.dataset.cache_dir=FOLDER.'
      ) from e
    self._is_verified = np.zeros(num_examples, bool)

  def get(self, index: int, decode: Callable[[int], Example]) -> Example:
    """The example at `index`; `decode(index)` if it is not cached yet."""
    row = self._rows[index]
    if not self._is_verified[index]:
      if row['checksum'] != self._checksum(row):
        # Another process may write the same row; it writes the same values.
        example = decode(index)
        check_fields(example, self._blank)
        for name, value in example.items():
          row[name] = value
        row['checksum'] = self._checksum(row)
      self._is_verified[index] = True
    return {name: row[name] for name in self._blank}

  def _checksum(self, row: np.void) -> int:
    checksum = 0
    for name in self._blank:
      checksum = zlib.crc32(row[name], checksum)
    return checksum


Cache = MemoryCache | DiskCache


def disk_cache_name(
  *,
  fingerprint: str,
  split: str,
  image_shape: tuple[int, ...],
  text: text_features.TextFeatures | None = None,
) -> str:
  """A file name with all that the decoded posters of a split depend on."""
  height, width = image_shape[:2]
  features = f'_text{checksums.of_json(repr(text))[:8]}' if text else ''
  return (
    f'{fingerprint}_{split}_{height}x{width}{features}'
    f'_resize{image_decoding.RESIZE_VERSION}_pillow{PIL.__version__}.rows'
  )


def _allocate(path: str, size: int) -> None:
  """Creates a file of `size` bytes and allocates its blocks on the disk.

  Writing to a mapped page of a file without blocks on a full disk would end the
  process with SIGBUS.
  """
  with open(path, 'ab') as file:
    _require_space(
      max(0, size - os.stat(path).st_blocks * 512),
      free=shutil.disk_usage(os.path.dirname(path)).free,
      kind='disk',
      use=f'disk space for {path}',
      remedy='Delete files of earlier runs there, or choose another folder with'
      ' --config.dataset.cache_dir=FOLDER.',
    )
    file.truncate(size)
    os.posix_fallocate(file.fileno(), 0, size)


def _require_space(
  size: int, *, free: int, kind: str, use: str, remedy: str
) -> None:
  """Logs the size of a new cache, and raises InputError if it does not fit."""
  needed = f'{size / 1e9:.2f} GB of {use}; {free / 1e9:.2f} GB are free'
  logging.info('The cache of decoded posters needs %s.', needed)
  if size > _MAX_SHARE * free:
    raise errors.InputError(
      f'config.dataset.cache={kind!r} needs {needed}, of which it may take'
      f' {_MAX_SHARE:.0%}. {remedy}'
    )
