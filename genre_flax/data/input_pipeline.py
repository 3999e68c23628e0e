"""Batches of posters, on the host.

A batch is a function of the seed and the step alone: which posters are in the
global batch at a step does not depend on the number of hosts or threads, nor on
whether the run was interrupted. So nothing of the input needs to be saved.
"""

from collections.abc import Generator, Sequence
import math
import os
from typing import Protocol

import grain
import numpy as np

from genre_flax.data import decoded_cache
from genre_flax.data import preprocess
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import records

Batch = dict[str, np.ndarray]
Batches = Generator[Batch, None, None]


class Examples(Protocol):
  """A split that batches are made of; safe to use from threads.

  An example is a dict of arrays with 'labels', float32 [num_genres]; all have
  the same names, shapes and dtypes.
  """

  @property
  def num_genres(self) -> int:
    """Number of labels."""

  def blank_example(self) -> dict[str, np.ndarray]:
    """An example of zeros, to pad with."""

  def __len__(self) -> int:
    """Number of examples."""

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """The example at `index`."""


class DecodedSplit:
  """A split as decoded examples, by random access; safe to use from threads.

  An example is {'image': uint8 [H, W, 3], 'labels': float32 [num_genres]}.
  """

  def __init__(
    self,
    split: records.Split,
    *,
    image_shape: tuple[int, int],
    cache: decoded_cache.Cache | None = None,
  ):
    """Wraps a split.

    Args:
      split: of stored records.
      image_shape: (height, width) to scale the posters to, in pixels.
      cache: that keeps every poster decoded.
    """
    self._split = split
    self._image_shape = image_shape
    self._cache = cache

  def __len__(self) -> int:
    return len(self._split)

  @property
  def num_genres(self) -> int:
    """Number of labels."""
    return self._split.num_genres

  def blank_example(self) -> dict[str, np.ndarray]:
    """An example of zeros, to pad with."""
    return {
      'image': np.zeros((*self._image_shape, 3), np.uint8),
      'labels': np.zeros(self.num_genres, np.float32),
    }

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    if self._cache is None:
      return self._decode(index)
    return self._cache.get(index, self._decode)

  def _decode(self, index: int) -> dict[str, np.ndarray]:
    record = self._split[index]
    height, width = self._image_shape
    try:
      image = preprocess.decode_and_resize(
        record.image, height=height, width=width
      )
    except images.BadImageError as e:
      raise self._split.damage(index, e) from e
    return {'image': image, 'labels': record.labels}


class _HostBatches:
  """One host's block of every global batch; safe to use from threads."""

  def __init__(
    self,
    split: Examples,
    order: Sequence[int],
    *,
    global_batch_size: int,
    host_index: int,
    num_hosts: int,
    counts_on: bool,
  ):
    """Describes the batches.

    Args:
      split: where the examples are.
      order: of the examples, batch after batch; what the split does not have
        is padding.
      global_batch_size: a multiple of num_hosts.
      host_index: from 0.
      num_hosts: of the run.
      counts_on: whether 'index' is the place in the order, instead of that in
        the global batch.
    """
    self._split = split
    self._order = order
    self._global_batch_size = global_batch_size
    self._block = global_batch_size // num_hosts
    self._start = host_index * self._block
    self._counts_on = counts_on
    self._blank = split.blank_example()

  def __len__(self) -> int:
    return len(self._order) // self._global_batch_size

  def __getitem__(self, step: int) -> Batch:
    first = step * self._global_batch_size + self._start
    number = first if self._counts_on else self._start
    batch = {
      'mask': np.empty(self._block, np.float32),
      'index': np.arange(number, number + self._block, dtype=np.int32),
    }
    for name, value in self._blank.items():
      batch[name] = np.empty((self._block, *value.shape), value.dtype)
    # Each example is copied to its place at once. To stack them in the end
    # would touch all of them again, while the other threads wait.
    for place in range(self._block):
      index = self._order[first + place]
      is_real = index < len(self._split)
      batch['mask'][place] = is_real
      example = self._split[index] if is_real else self._blank
      for name, value in example.items():
        batch[name][place] = value
    return batch


def train_batches(
  split: Examples,
  *,
  seed: int,
  start_step: int,
  global_batch_size: int,
  host_index: int,
  num_hosts: int,
  num_threads: int | None,
  prefetch_batches: int,
) -> Batches:
  """This host's part of the training batches, without end.

  Every epoch is a permutation of the split; batches run on over the ends of
  epochs.

  Args:
    split: with at least one example.
    seed: decides the order.
    start_step: updates done so far; the first batch is that of the next one.
    global_batch_size: posters a step over all hosts; a multiple of num_hosts.
    host_index: of this host, from 0.
    num_hosts: of the run.
    num_threads: that read and decode, a batch each, so that at most
      `prefetch_batches` are used; None: twice the CPU cores.
    prefetch_batches: batches to keep ready.

  Yields:
    {'image': uint8 [B, H, W, 3], 'labels': float32 [B, num_genres], 'mask':
    float32 [B] of ones, 'index': int32 [B], the example's place in the global
    batch}, where B = global_batch_size / num_hosts; other examples than
    DecodedSplit's have what they have in place of 'image'. The hosts' batches,
    one after the other, are the global batch.
  """
  batches = _HostBatches(
    split,
    grain.MapDataset.range(len(split)).seed(seed).shuffle().repeat(),
    global_batch_size=global_batch_size,
    host_index=host_index,
    num_hosts=num_hosts,
    counts_on=False,
  )
  return _iterate(
    grain.MapDataset.source(batches)[start_step:],
    num_threads=num_threads,
    prefetch_batches=prefetch_batches,
  )


def num_eval_batches(num_examples: int, *, global_batch_size: int) -> int:
  """Number of evaluation batches; the same on all hosts."""
  return math.ceil(num_examples / global_batch_size)


def eval_batches(
  split: Examples,
  *,
  global_batch_size: int,
  host_index: int,
  num_hosts: int,
  num_threads: int | None,
  prefetch_batches: int,
) -> Batches:
  """This host's part of a split, every example once, padded to full batches.

  Args:
    split: of any length.
    global_batch_size: posters a step over all hosts; a multiple of num_hosts.
    host_index: of this host, from 0.
    num_hosts: of the run.
    num_threads: that read and decode, a batch each, so that at most
      `prefetch_batches` are used; None: twice the CPU cores.
    prefetch_batches: batches to keep ready.

  Yields:
    As `train_batches`, but 'mask' is 0 on padding, and 'index' is the example's
    place in the split. All hosts get the same number of batches.
  """
  count = num_eval_batches(len(split), global_batch_size=global_batch_size)
  batches = _HostBatches(
    split,
    range(count * global_batch_size),
    global_batch_size=global_batch_size,
    host_index=host_index,
    num_hosts=num_hosts,
    counts_on=True,
  )
  return _iterate(
    grain.MapDataset.source(batches),
    num_threads=num_threads,
    prefetch_batches=prefetch_batches,
  )


def _iterate(
  batches: grain.MapDataset,
  *,
  num_threads: int | None,
  prefetch_batches: int,
) -> Batches:
  """Makes batches in threads, ahead of the consumer; stops them at the end."""
  num_threads = num_threads or 2 * (os.cpu_count() or 1)
  iterator = iter(
    batches.to_iter_dataset(
      grain.ReadOptions(
        num_threads=min(num_threads, prefetch_batches),
        prefetch_buffer_size=prefetch_batches,
      )
    )
  )
  try:
    yield from iterator
  finally:
    iterator.close()
