"""Keeps decoded posters, so that from the second epoch on input costs nothing.

In the memory of one process, or in a file that is mapped into memory and is
shared by all runs on a machine, one after the other or at the same time.
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
# A cache may take this share of what is free when it is made.
_SHARE_OF_FREE = 0.8


class Cache(Protocol):
  """Examples by index; safe to use from threads."""

  def get(self, index: int, decode: Callable[[int], Example]) -> Example:
    """The example at `index`; `decode` makes it where it is not kept yet."""


class MemoryCache:
  """Decoded examples in one array, filled as they are asked for."""

  def __init__(self, num_examples: int, image_shape: tuple[int, ...]):
    """Makes an empty cache.

    Args:
      num_examples: of the split.
      image_shape: (height, width, 3).

    Raises:
      InputError: it does not fit into the host's free memory.
    """
    size = num_examples * math.prod(image_shape)
    free = psutil.virtual_memory().available
    logging.info(
      'The cache of %d decoded posters takes up to %.2f GB of memory; %.2f GB'
      ' are free.',
      num_examples,
      size / 1e9,
      free / 1e9,
    )
    if size > _SHARE_OF_FREE * free:
      raise errors.InputError(
        f"config.dataset.cache='memory' would take {size / 1e9:.2f} GB for"
        f' {num_examples} posters of {image_shape[0]} x {image_shape[1]}, but'
        f' only {free / 1e9:.2f} GB of memory are free (at most'
        f' {_SHARE_OF_FREE:.0%} of which may be used). Set'
        ' --config.dataset.cache=none or =disk, or choose a smaller image_size.'
      )
    # Pages that nobody wrote to take no memory yet.
    self._images = np.empty((num_examples, *image_shape), np.uint8)
    self._labels: list[np.ndarray | None] = [None] * num_examples

  def get(self, index: int, decode: Callable[[int], Example]) -> Example:
    """As `Cache.get`."""
    # Labels are set last: where they are, the image is complete. Two threads
    # may decode the same poster once; they write the same values.
    if self._labels[index] is None:
      example = decode(index)
      self._images[index] = example['image']
      self._labels[index] = example['labels']
    return {'image': self._images[index], 'labels': self._labels[index]}


class DiskCache:
  """Decoded examples in a file that processes share.

  Each has a checksum, which is looked at once in each process: what is not
  there yet, or was not written whole, is decoded.
  """

  def __init__(
    self,
    path: epath.PathLike,
    *,
    num_examples: int,
    image_shape: tuple[int, ...],
    num_genres: int,
  ):
    """Opens the file, or makes an empty one.

    Args:
      path: of the file, on a local disk.
      num_examples: of the split.
      image_shape: (height, width, 3).
      num_genres: number of labels.

    Raises:
      InputError: the disk has too little room, or the file cannot be made.
    """
    row = np.dtype(
      [
        ('image', np.uint8, image_shape),
        ('labels', np.float32, (num_genres,)),
        ('checksum', np.uint32),
      ]
    )
    path = os.fspath(path)
    size = num_examples * row.itemsize
    try:
      os.makedirs(os.path.dirname(path), exist_ok=True)
      _make_room(path, size)
      self._rows = np.asarray(np.memmap(path, row, 'r+', shape=num_examples))
    except OSError as e:
      raise errors.InputError(
        f"The file {path} of config.dataset.cache='disk' cannot be made:"
        f' {e.strerror or e}. Choose a folder on a local disk with'
        ' --config.dataset.cache_dir=FOLDER.'
      ) from e
    self._is_checked = np.zeros(num_examples, bool)

  def get(self, index: int, decode: Callable[[int], Example]) -> Example:
    """As `Cache.get`."""
    row = self._rows[index]
    if not self._is_checked[index]:
      if row['checksum'] != _checksum(row):
        # Another process may write the same row; it writes the same values.
        example = decode(index)
        row['image'], row['labels'] = example['image'], example['labels']
        row['checksum'] = _checksum(row)
      self._is_checked[index] = True
    return {'image': row['image'], 'labels': row['labels']}


def disk_cache_name(
  *, fingerprint: str, split: str, image_shape: tuple[int, ...]
) -> str:
  """A file name that tells all that a split's decoded posters depend on."""
  height, width = image_shape[:2]
  return (
    f'{fingerprint}_{split}_{height}x{width}_resize{image_decoding.RESIZE_VERSION}'
    f'_pillow{PIL.__version__}.rows'
  )


def _make_room(path: str, size: int) -> None:
  """Makes a file of a size, and takes its blocks from the disk.

  A disk that is full only when a page of the mapped file is written would end
  the process with a signal.
  """
  with open(path, 'ab') as file:
    missing = size - os.stat(path).st_blocks * 512
    free = shutil.disk_usage(os.path.dirname(path)).free
    logging.info(
      'The file %s of decoded posters takes %.2f GB; %.2f GB are free.',
      path,
      size / 1e9,
      free / 1e9,
    )
    if missing > _SHARE_OF_FREE * free:
      raise errors.InputError(
        f"config.dataset.cache='disk' would take {missing / 1e9:.2f} GB more in"
        f' {path}, but only {free / 1e9:.2f} GB are free (at most'
        f' {_SHARE_OF_FREE:.0%} of which may be used). Delete files of earlier'
        ' runs there, or choose another folder with'
        ' --config.dataset.cache_dir=FOLDER.'
      )
    file.truncate(size)
    os.posix_fallocate(file.fileno(), 0, size)


def _checksum(row: np.void) -> int:
  return zlib.crc32(row['labels'], zlib.crc32(row['image']))
