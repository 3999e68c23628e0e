"""Synthetic posters as collections, and datasets of them on disk."""

import pathlib

from etils import epath
import pytest

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors

_SHARES = {'train': 50, 'validation': 25, 'test': 25}


class Posters:
  """A collection of synthetic posters with its data card."""

  def __init__(self, folder, num_posters, seed=0):
    csv_file, images = synthetic.write_posters(
      folder, num_posters=num_posters, seed=seed
    )
    spool = epath.Path(folder) / 'spool'
    spool.mkdir()
    self.collection = collection.collect(
      [sources.Source(csv_file, images)], shares=_SHARES, spool=spool
    )
    self.card = data_card.make(self.collection)

  def write(self, data_dir, **options):
    with writing.scratch_folder(data_dir) as scratch:
      return writing.write(
        self.collection,
        card=self.card,
        data_dir=data_dir,
        scratch=scratch,
        **options,
      )


def files(folder):
  """The contents of all files below a folder except the lock, by path."""
  folder = pathlib.Path(folder)
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file() and path.name != '.lock'
  }


def copy(written, tmp_path):
  for name, content in files(written).items():
    path = pathlib.Path(tmp_path) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return storage.dataset_path(tmp_path)


def flip_bit(path):
  """Flips one bit in the middle of a file."""
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def assert_contains(data_dir, posters):
  """All splits can be read, and there are no other files."""
  dataset = storage.open_dataset(data_dir)
  assert dataset.card == posters.card
  ids = set()
  for name in dataset.card['splits']:
    split = dataset.open_split(name)
    ids |= {split[index].id for index in range(len(split))}
  assert ids == {example.id for example in posters.collection.examples}
  assert [
    path.name for path in (epath.Path(data_dir) / 'posters').iterdir()
  ] == ['1.0.0']


def assert_no_dataset(data_dir):
  with pytest.raises(errors.InputError, match='contains no prepared dataset'):
    storage.open_dataset(data_dir)
