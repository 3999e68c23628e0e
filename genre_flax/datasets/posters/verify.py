"""Tells whether a data set is, to the last bit, what prepare wrote."""

from collections.abc import Callable, Iterable
from typing import Any

from etils import epath

from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import manifest
from genre_flax.datasets.posters import storage

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


def verify(
  data_dir: epath.PathLike,
  *,
  progress: Progress = lambda items, total, description: items,
) -> str:
  """Reads all of a data set.

  Args:
    data_dir: of the data set.
    progress: shows how far it is.

  Returns:
    What was found good, in a sentence.

  Raises:
    InputError: there is no data set.
    DamageError: it is not what was written.
  """
  dataset = storage.open_dataset(data_dir)
  folder = storage.dataset_path(data_dir)
  if dataset.listed is not None:
    manifest.check(
      folder,
      dataset.listed,
      with_digest=lambda name: True,
      progress=lambda names: progress(names, len(names), 'Reading files'),
    )
    size = sum(one['bytes'] for one in dataset.listed.values())
    return (
      f'All {len(dataset.listed)} files of {folder} ({size / 1e6:,.1f} MB) are'
      ' what was written.'
    )
  num_records = 0
  for name in dataset.card['splits']:
    split = dataset.open_split(name)
    for index in progress(range(len(split)), len(split), f'Reading {name}'):
      try:
        images.open_rgb(split[index].image)
      except images.BadImageError as e:
        raise split.damage(index, e) from e
      num_records += 1
  return (
    f'All {num_records:,} posters of {folder} can be read; it is of an earlier'
    ' version, without digests to compare them with.'
  )
