"""Caches of decoded posters, so that later epochs skip reading and decoding.

A cache is in the memory of one process, or in a memory-mapped file that all
runs on a machine share.
"""

from collections.abc import Callable
import math
import os
import shutil
from typing import Protocol
import zlib

from absl import logging
from etils import epath
import numpy as np
import PIL
import psutil

from genre_flax.data import image_decoding
from genre_flax.runtime import errors

Example = dict[str, np.ndarray]
# Largest share of the free memory or disk space that a new cache may take.
_MAX_SHARE = 0.8


class Cache(Protocol):
  """Examples by index; safe to use from threads."""

  def get(self, index: int, decode: Callable[[int], Example]) -> Example:
    """The example at `index`; `decode(index)` if it is not cached yet."""


class MemoryCache:
  """Decoded examples in one array, filled on access."""

  def __init__(self, num_examples: int, image_shape: tuple[int, ...]):
    """Allocates an empty cache.

    Args:
      num_examples: number of examples of the split.
      image_shape: (height, width, 3).

    Raises:
      InputError: the cache does not fit into the host's free memory.
    """
    height, width = image_shape[:2]
    _require_space(
      num_examples * math.prod(image_shape),
      free=psutil.virtual_memory().available,
      kind='memory',
      use=f'memory for {num_examples} posters of {height} x {width}',
      remedy='Set --config.dataset.cache=none or =disk, or choose a smaller'
      ' image size.',
    )
    # Pages take no memory before they are written.
    self._images = np.empty((num_examples, *image_shape), np.uint8)
    self._labels: list[np.ndarray | None] = [None] * num_examples

  def get(self, index: int, decode: Callable[[int], Example]) -> Example:
    """See `Cache.get`."""
    # Labels are set last, so an image with labels is complete. Two threads may
    # decode the same poster once; they write the same values.
    if self._labels[index] is None:
      example = decode(index)
      self._images[index] = example['image']
      self._labels[index] = example['labels']
    return {'image': self._images[index], 'labels': self._labels[index]}


class DiskCache:
  """Decoded examples in a file that processes share.

  Each row has a checksum, which each process verifies once. Rows that are
  missing or incomplete are decoded.
  """

  def __init__(
    self,
    path: epath.PathLike,
    *,
    num_examples: int,
    image_shape: tuple[int, ...],
    num_genres: int,
  ):
    """Opens the file, or creates an empty one.

    Args:
      path: the file, on a local disk.
      num_examples: number of examples of the split.
      image_shape: (height, width, 3).
      num_genres: number of labels.

    Raises:
      InputError: the disk is too full, or the file cannot be created.
    """
    row = np.dtype(
      [
        ('image', np.uint8, image_shape),
        ('labels', np.float32, (num_genres,)),
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
    """See `Cache.get`."""
    row = self._rows[index]
    if not self._is_verified[index]:
      if row['checksum'] != _checksum(row):
        # Another process may write the same row; it writes the same values.
        example = decode(index)
        row['image'], row['labels'] = example['image'], example['labels']
        row['checksum'] = _checksum(row)
      self._is_verified[index] = True
    return {'image': row['image'], 'labels': row['labels']}


def disk_cache_name(
  *, fingerprint: str, split: str, image_shape: tuple[int, ...]
) -> str:
  """A file name with all that the decoded posters of a split depend on."""
  height, width = image_shape[:2]
  return (
    f'{fingerprint}_{split}_{height}x{width}'
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


def _checksum(row: np.void) -> int:
  return zlib.crc32(row['labels'], zlib.crc32(row['image']))
