"""Batches of posters on the host.

The global batch at a step is a function of the seed and the step alone. It does
not depend on the number of hosts or threads, nor on interruptions, so a
checkpoint needs no state of the input pipeline.
"""

from collections.abc import Generator, Sequence
import dataclasses
import math
import os
from typing import Protocol

import grain
import jax
import numpy as np

from genre_flax.data import cache as cache_lib
from genre_flax.data import image_decoding
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import records
from genre_flax.datasets.posters import text_features

Batch = dict[str, np.ndarray]
Batches = Generator[Batch, None, None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderOptions:
  """Size of the batches and resources of a host.

  Attributes:
    global_batch_size: posters per step over all hosts; a multiple of num_hosts.
    num_threads: threads that read and decode, one batch each, so that at most
      `prefetch_batches` are used; None: twice the CPU cores.
    prefetch_batches: batches to keep ready.
    host_index: index of this host, from 0.
    num_hosts: number of hosts of the run.
  """

  global_batch_size: int
  num_threads: int | None = None
  prefetch_batches: int = 2
  host_index: int = dataclasses.field(default_factory=jax.process_index)
  num_hosts: int = dataclasses.field(default_factory=jax.process_count)


class Examples(Protocol):
  """A split with random access; safe to use from threads.

  An example is a dict of arrays with 'labels', float32 [num_genres]. All
  examples have the same keys, shapes and dtypes.
  """

  def blank_example(self) -> dict[str, np.ndarray]:
    """An example of zeros, used as padding."""

  def __len__(self) -> int:
    """The number of examples."""

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    """The example at `index`."""


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedSplit:
  """A split as decoded examples with random access; safe to use from threads.

  An example is {'image': uint8 [H, W, 3], 'labels': float32 [num_genres]}, the
  extra columns, scalars by their names, and the inputs of `text`.

  Attributes:
    split: the stored records.
    image_shape: (height, width) of the resized posters, in pixels.
    text: features of the text; None for a network of images alone.
    cache: cache of decoded posters; None: decode a poster at each access.
  """

  split: records.Split
  _: dataclasses.KW_ONLY
  image_shape: tuple[int, int]
  text: text_features.TextFeatures | None = None
  cache: cache_lib.Cache | None = None

  def __len__(self) -> int:
    return len(self.split)

  def blank_example(self) -> dict[str, np.ndarray]:
    """An example of zeros, used as padding."""
    inputs = (
      *self.split.extra_columns,
      *(self.text.inputs if self.text else ()),
    )
    return {
      'image': np.zeros((*self.image_shape, 3), np.uint8),
      'labels': np.zeros(self.split.num_genres, np.float32),
      **{each.name: np.zeros(each.shape, each.dtype) for each in inputs},
    }

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    if self.cache is None:
      return self._decode(index)
    return self.cache.get(index, self._decode)

  def _decode(self, index: int) -> dict[str, np.ndarray]:
    record = self.split[index]
    height, width = self.image_shape
    try:
      image = image_decoding.decode_and_resize(
        record.image, height=height, width=width
      )
    except images.BadImageError as e:
      raise self.split.damage(index, e) from e
    example = {'image': image, 'labels': record.labels, **record.extra}
    return example | (self.text(record.text) if self.text else {})


class _HostBatches:
  """One host's slice of every global batch; safe to use from threads.

  `order` has the indices of the examples, batch after batch; an index past the
  end of the split is padding. 'index' in a batch is the position in `order`, or
  in the global batch.
  """

  def __init__(
    self,
    split: Examples,
    order: Sequence[int],
    options: LoaderOptions,
    *,
    index_in_order: bool,
  ):
    self._split = split
    self._order = order
    self._global_batch_size = options.global_batch_size
    self._batch_size = options.global_batch_size // options.num_hosts
    self._start = options.host_index * self._batch_size
    self._index_in_order = index_in_order
    self._blank = split.blank_example()

  def __len__(self) -> int:
    return len(self._order) // self._global_batch_size

  def __getitem__(self, step: int) -> Batch:
    first = step * self._global_batch_size + self._start
    start = first if self._index_in_order else self._start
    batch = {
      'mask': np.empty(self._batch_size, np.float32),
      'index': np.arange(start, start + self._batch_size, dtype=np.int32),
    }
    for name, value in self._blank.items():
      batch[name] = np.empty((self._batch_size, *value.shape), value.dtype)
    # Each example is copied to its row when it is read. Stacking them at the
    # end would read all of them again while the other threads wait.
    for row in range(self._batch_size):
      index = self._order[first + row]
      is_real = index < len(self._split)
      batch['mask'][row] = is_real
      example = self._split[index] if is_real else self._blank
      cache_lib.check_fields(example, self._blank)
      for name, value in example.items():
        batch[name][row] = value
    return batch


def train_order(
  num_examples: int,
  *,
  global_batch_size: int,
  seed: int,
  overfit_batches: int = 0,
) -> Sequence[int]:
  """Indices of the training examples, batch after batch, without end.

  Every epoch is a permutation of the split. Batches cross the ends of epochs.

  Args:
    num_examples: of the split, at least one.
    global_batch_size: examples per step over all hosts.
    seed: seed of the order.
    overfit_batches: > 0: the first batches, this many, again and again.
  """
  order = grain.MapDataset.range(num_examples).seed(seed).shuffle().repeat()
  if overfit_batches:
    # A slice of `order` would have another order in each repetition.
    first = [order[i] for i in range(overfit_batches * global_batch_size)]
    order = grain.MapDataset.source(first).repeat()
  return order


def train_batches(
  split: Examples,
  options: LoaderOptions,
  *,
  seed: int,
  start_step: int,
  overfit_batches: int = 0,
) -> Batches:
  """This host's slices of the training batches, without end.

  Args:
    split: a split with at least one example.
    options: batch size and resources.
    seed: see `train_order`.
    start_step: completed updates; the first batch is that of the next update.
    overfit_batches: see `train_order`.

  Yields:
    {'image': uint8 [B, H, W, 3], 'labels': float32 [B, num_genres], 'mask':
    float32 [B] of ones, 'index': int32 [B], the example's position in the
    global batch}, where B = global_batch_size / num_hosts. Examples other than
    those of DecodedSplit have their own keys in place of 'image'. The slices of
    all hosts, concatenated, are the global batch. Extra columns are further
    entries [B] by their names.
  """
  order = train_order(
    len(split),
    global_batch_size=options.global_batch_size,
    seed=seed,
    overfit_batches=overfit_batches,
  )
  batches = _HostBatches(split, order, options, index_in_order=False)
  return _iterate(grain.MapDataset.source(batches)[start_step:], options)


def eval_batches(split: Examples, options: LoaderOptions) -> Batches:
  """This host's slices of a split: each example once, the last batch padded.

  Args:
    split: a split of any length.
    options: batch size and resources.

  Yields:
    As `train_batches`, but 'mask' is 0 on padding, and 'index' is the example's
    position in the split. All hosts get the same number of batches.
  """
  num_batches = math.ceil(len(split) / options.global_batch_size)
  order = range(num_batches * options.global_batch_size)
  batches = _HostBatches(split, order, options, index_in_order=True)
  return _iterate(grain.MapDataset.source(batches), options)


def _iterate(batches: grain.MapDataset, options: LoaderOptions) -> Batches:
  """Loads batches in threads ahead of the consumer, and stops the threads."""
  num_threads = options.num_threads or 2 * (os.cpu_count() or 1)
  iterator = iter(
    batches.to_iter_dataset(
      grain.ReadOptions(
        num_threads=min(num_threads, options.prefetch_batches),
        prefetch_buffer_size=options.prefetch_batches,
      )
    )
  )
  try:
    yield from iterator
  finally:
    iterator.close()
