"""A prepared data set on disk: its card, and random access to its posters."""

import dataclasses
import json
from typing import Any

from absl import logging
from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from genre_flax.datasets.posters import manifest
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import records
from genre_flax.datasets.posters import staging
from genre_flax.runtime import errors
from genre_flax.runtime import files

CARD_JSON = 'data_card.json'


def dataset_path(data_dir: epath.PathLike) -> epath.Path:
  """Where the files lie below `data_dir`, as TFDS lays them out."""
  return (
    epath.Path(data_dir)
    / posters_dataset_builder.NAME
    / posters_dataset_builder.VERSION
  )


def read_card(data_dir: epath.PathLike) -> dict[str, Any]:
  """The data card of the data set in `data_dir`.

  Raises:
    InputError: there is no data set.
    DamageError: its card is damaged.
  """
  path = dataset_path(data_dir) / CARD_JSON
  if not path.exists():
    raise errors.InputError(
      f'{data_dir or "(empty)"} holds no prepared data set: there is no {path}.'
      ' Make one with `python -m genre_flax.prepare --csv=FILE --images=FOLDER'
      ' --data_dir=FOLDER`.'
    )
  try:
    card = json.loads(path.read_bytes())
    # What all that reads it relies on.
    card['fingerprint'], card['label_prior'], card['label_sets']
    card['sources'][0]['csv']
    if not all(isinstance(genre, str) for genre in card['genres']):
      raise ValueError('the genres are no names')
    for split in card['splits'].values():
      int(split['num_examples'])
  except Exception as e:  # The bytes decide what is raised.
    raise errors.DamageError(
      f'The data card {path} is damaged: {e!r}. {records.REMEDY}'
    ) from None
  return card


@dataclasses.dataclass(frozen=True)
class PosterDataset:
  """A prepared data set.

  Attributes:
    data_dir: where it lies.
    card: the data card.
    listed: its files, of `manifest.read`; None of earlier versions.
  """

  data_dir: str
  card: dict[str, Any]
  listed: manifest.Manifest | None = None

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names, in the order of the labels."""
    return tuple(self.card['genres'])

  @property
  def label_prior(self) -> np.ndarray:
    """[num_genres], the share of positives in the training split."""
    return np.asarray(self.card['label_prior'])

  @property
  def label_sets(self) -> list[tuple[tuple[int, ...], int]]:
    """The sets of genres in the training split, the most frequent first.

    The indices of the genres, and the number of posters with exactly these.
    """
    index = {genre: i for i, genre in enumerate(self.genres)}
    return [
      (tuple(index[genre] for genre in genres), count)
      for genres, count in self.card['label_sets']
    ]

  def num_examples(self, split: str) -> int:
    """Number of posters in `split`.

    Raises:
      InputError: there is no such split.
    """
    splits = self.card['splits']
    if split not in splits:
      raise errors.InputError(
        f'The data set in {self.data_dir} has no split {split!r}; it has'
        f' {list(splits)}.'
      )
    return splits[split]['num_examples']

  def open_split(
    self, split: str, *, check_records: bool = False
  ) -> records.Split:
    """Opens the records of `split`, and checks the sizes of their files.

    Args:
      split: its name.
      check_records: whether to compare the digests of the files, which reads
        all of them; else a damaged record is found when it is read.

    Raises:
      InputError: there is no such split.
      DamageError: its files are damaged.
    """
    expected = self.num_examples(split)
    folder = self._local_folder(split, check_records=check_records)
    try:
      builder = tfds.builder_from_directory(str(folder))
      source = builder.as_data_source(
        split=split,
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
      )
      info = builder.info.splits[split]
      shards = list(zip(info.filepaths, info.shard_lengths, strict=True))
    except Exception as e:  # Damaged files raise whatever their reader does.
      raise errors.DamageError(
        f'The split {split!r} in {self.data_dir} is damaged: {e}.'
        f' {records.REMEDY}'
      ) from e
    if len(source) != expected:
      raise errors.DamageError(
        f'The split {split!r} in {self.data_dir} has {len(source)} records; its'
        f' data card says {expected}. {records.REMEDY}'
      )
    opened = records.Split(source, len(self.genres), shards=shards)
    opened.open_shards()
    return opened

  def _local_folder(self, split, *, check_records):
    """The folder of the data set, or of its copy on this machine, checked."""
    folder = dataset_path(self.data_dir)
    shards = {
      name: listed
      for name, listed in (self.listed or {}).items()
      if manifest.is_shard(name, split)
    }
    if not files.is_remote(folder):
      self._check(folder, shards, with_digest=check_records)
      return folder
    key = self.card['fingerprint']
    copy = staging.fetch(folder, key=key)
    try:
      self._check(copy, shards, with_digest=check_records)
    except errors.DamageError as e:
      logging.warning('%s\nIt is copied anew.', e)
      copy = staging.fetch(folder, key=key, is_damaged=True)
      self._check(copy, shards, with_digest=check_records)
    return copy

  def check_small_files(self) -> None:
    """Compares all files but those of the records with their digests.

    Raises:
      DamageError: one differs.
    """
    if self.listed is not None:
      small = {
        name: listed
        for name, listed in self.listed.items()
        if not manifest.is_shard(name)
      }
      self._check(dataset_path(self.data_dir), small, with_digest=True)

  def _check(self, folder, listed, *, with_digest):
    try:
      manifest.check(folder, listed, with_digest=lambda name: with_digest)
    except errors.DamageError as e:
      raise errors.DamageError(
        f'The data set in {self.data_dir}: {e}\n{records.REMEDY}'
      ) from None


def open_dataset(data_dir: epath.PathLike) -> PosterDataset:
  """Opens the data set that prepare wrote into `data_dir`.

  Raises:
    InputError: there is none.
    DamageError: a file of it, other than those of the records, is damaged.
  """
  card = read_card(data_dir)
  folder = dataset_path(data_dir)
  listed = manifest.read(folder)
  if listed is None and card.get('digests'):
    raise errors.DamageError(
      f'{folder / manifest.FILE_NAME} is missing, the list of the files of the'
      f' data set. {records.REMEDY}'
    )
  if listed is None:
    logging.warning(
      'The data set in %s is of an earlier version, without digests: it is read'
      ' unverified.',
      data_dir,
    )
  dataset = PosterDataset(str(data_dir), card, listed)
  dataset.check_small_files()
  return dataset
