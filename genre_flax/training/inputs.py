"""The dataset and the splits of a config."""

import dataclasses
import os

from etils import epath
import ml_collections

from genre_flax import config as config_lib
from genre_flax.data import cache as cache_lib
from genre_flax.data import input_pipeline
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import subsets
from genre_flax.datasets.posters import text_features
from genre_flax.runtime import files
from genre_flax.runtime import parallel
from genre_flax.runtime import text


def open_dataset(
  config: ml_collections.ConfigDict, workdir: epath.Path
) -> storage.PosterDataset:
  """Opens the dataset of a config, or generates a synthetic one in `workdir`.

  With `train_share` or `fold`, it is that part of the dataset.

  Raises:
    InputError: there is no dataset, or the part has no posters.
  """
  data_dir = config.dataset.data_dir
  if config.dataset.synthetic_posters:
    data_dir = workdir / 'data'
    if parallel.is_main_host():
      build.build_synthetic(
        data_dir=data_dir, num_posters=config.dataset.synthetic_posters
      )
    parallel.barrier('synthetic dataset written')
  return subsets.select(storage.open_dataset(data_dir), config.dataset)


def check_splits(
  config: ml_collections.ConfigDict, dataset: storage.PosterDataset
) -> None:
  """Verifies the files of the config's splits; seconds per ten gigabytes.

  Raises:
    InputError: there is no such split.
    DamageError: its files are damaged.
  """
  names = config.dataset
  storage.check_splits(dataset.card, names)
  for name in (names.train_split, names.validation_split, names.test_split):
    if name:
      dataset.open_split(name, check_records=True)


def limits(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  sizes: config_lib.Sizes,
) -> list[str]:
  """What a training cannot learn or measure with its dataset, for the log."""
  names, lines = config.dataset, []
  if sizes.global_batch_size < config.batch_size:
    lines.append(
      f'config.batch_size={config.batch_size} is lowered to'
      f' {sizes.global_batch_size}: the split {names.train_split!r} has only'
      f' {dataset.num_examples(names.train_split):,} posters.'
    )
  if not names.validation_split:
    lines.append(
      "config.dataset.validation_split='': no checkpoint is validated. The last"
      ' one is used, its scores are not calibrated, and all thresholds are 0.5.'
    )
  effects = {
    names.train_split: 'their scores are their prior, the same for all posters',
    names.validation_split: 'means over genres omit them, and the calibration'
    ' uses their share of the training split',
  }
  for split, effect in effects.items():
    missing = dataset.genres_without_positives(split) if split else []
    if missing:
      listed = text.printable(text.join_first(missing, limit=10))
      lines.append(
        f'{len(missing)} of {len(dataset.genres)} genres have no poster in the'
        f' split {split!r}: {listed}; {effect}.'
      )
  return lines


def open_split(
  config: ml_collections.ConfigDict, dataset: storage.PosterDataset, name: str
) -> input_pipeline.DecodedSplit:
  """Opens a split at the config's image size, with the config's cache.

  Raises:
    InputError: there is no such split, or too little space for the cache.
  """
  split = input_pipeline.DecodedSplit(
    dataset.open_split(name),
    image_shape=config_lib.image_shape(config),
    text=text_features.from_config(config.model),
  )
  cache, blank = None, split.blank_example()
  if config.dataset.cache == 'memory':
    cache = cache_lib.MemoryCache(len(split), blank)
  elif config.dataset.cache == 'disk':
    folder = config.dataset.cache_dir or files.cache_dir() / 'decoded'
    file_name = cache_lib.disk_cache_name(
      fingerprint=dataset.card['fingerprint'],
      split=name,
      image_shape=split.image_shape,
      text=split.text,
    )
    cache = cache_lib.DiskCache(
      os.path.join(os.path.expanduser(folder), file_name),
      num_examples=len(split),
      blank=blank,
    )
  return dataclasses.replace(split, cache=cache)


def loader_options(
  config: ml_collections.ConfigDict, global_batch_size: int
) -> input_pipeline.LoaderOptions:
  """Options to load batches on this host, with the threads of a config."""
  return input_pipeline.LoaderOptions(
    global_batch_size=global_batch_size,
    num_threads=config.dataset.num_threads,
    prefetch_batches=config.dataset.prefetch_batches,
  )


def train_batches(
  config: ml_collections.ConfigDict,
  split: input_pipeline.Examples,
  *,
  sizes: config_lib.Sizes,
  start_step: int,
) -> input_pipeline.Batches:
  """This host's training batches after `start_step` updates, without end."""
  return input_pipeline.train_batches(
    split,
    loader_options(config, sizes.global_batch_size),
    seed=config.seed,
    start_step=start_step,
    overfit_batches=config.overfit_batches,
  )


def batch_examples(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  sizes: config_lib.Sizes,
  step: int,
) -> list[tuple[int, str]]:
  """Indices in the training split, and films, of the batch after `step`."""
  split = dataset.open_split(config.dataset.train_split)
  batch_size = sizes.global_batch_size
  order = input_pipeline.train_order(
    len(split),
    global_batch_size=batch_size,
    seed=config.seed,
    overfit_batches=config.overfit_batches,
  )
  indices = [int(order[step * batch_size + row]) for row in range(batch_size)]
  return [(index, split[index].id) for index in indices]
