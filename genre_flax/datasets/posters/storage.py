"""Prepared datasets on disk: the data card and access to the records."""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
import shutil
from typing import Any

from absl import logging
from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import manifest as manifest_lib
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import records
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import watchdog

CARD_JSON = 'data_card.json'


def dataset_path(data_dir: epath.PathLike) -> epath.Path:
  """The folder of the dataset's files below `data_dir`, by TFDS's layout."""
  return (
    epath.Path(data_dir)
    / posters_dataset_builder.NAME
    / posters_dataset_builder.VERSION
  )


def whole_fingerprint(fingerprint: str) -> str:
  """The fingerprint of a stored dataset, from that of a part of it."""
  return fingerprint.partition('-')[0]


def has_posters_of(card: Mapping[str, Any], fingerprint: str) -> bool:
  """Whether a dataset has the posters of a fingerprint, or of the whole of it.

  Text that was added later does not matter.
  """
  known = card['fingerprint'], card.get('base_fingerprint', '')
  return whole_fingerprint(fingerprint) in map(whole_fingerprint, known)


def read_card(data_dir: epath.PathLike) -> dict[str, Any]:
  """Reads the data card of the dataset in `data_dir`.

  Raises:
    InputError: there is no dataset.
    DamageError: the card is damaged.
  """
  path = dataset_path(data_dir) / CARD_JSON
  if not path.exists():
    raise errors.InputError(
      f'{data_dir or "(empty)"} contains no prepared dataset: there is no'
      f' {path}. Create one with `python -m genre_flax.prepare --csv=FILE'
      ' --images=FOLDER --data_dir=FOLDER`.'
    )
  try:
    card = json.loads(path.read_bytes())
    # The entries that other modules rely on.
    card['fingerprint'], card['label_prior'], card['label_sets']
    card['sources'][0]['csv']
    # Absent from the cards of earlier versions.
    extra_columns.parse(card.setdefault('extra_columns', []))
    if not all(isinstance(genre, str) for genre in card['genres']):
      raise ValueError('the genres are not strings')
    for split in card['splits'].values():
      int(split['num_examples'])
  except Exception as e:  # Damaged bytes raise exceptions of many types.
    raise errors.DamageError(
      f'The data card {path} is damaged or of an earlier version: {e!r}.'
      f' {manifest_lib.REMEDY}'
    ) from None
  return card


def check_splits(card: Mapping[str, Any], options: Mapping[str, Any]) -> None:
  """Checks that a dataset has the splits of `config.dataset`.

  Args:
    card: of the stored dataset.
    options: `config.dataset`.

  Raises:
    InputError: a split is missing or empty.
  """
  sizes = {name: each['num_examples'] for name, each in card['splits'].items()}
  splits = [name for name, size in sizes.items() if size]
  for key in ('train_split', 'validation_split', 'test_split'):
    name = options[key]
    is_fold = key == 'validation_split' and options['fold']
    if not name or name in splits or is_fold:
      continue
    remedy = f'Choose one with --config.dataset.{key}'
    if key != 'train_split':
      remedy += ", '' for none"
    if key == 'validation_split':
      remedy += (
        ' (the last checkpoint is then used, without calibration); validate on'
        ' a fold of the training split with --config.dataset.fold=1/5; or'
        ' prepare a validation split with --splits=80,10,10'
      )
    raise errors.InputError(
      f'The dataset in {options["data_dir"] or "the workdir"} has no split'
      f' {name!r}, only {splits}. {remedy}.'
    )


def split_size(card: Mapping[str, Any], split: str, *, data_dir: str) -> int:
  """The number of posters of a split, from the data card.

  Raises:
    InputError: the dataset has no such split, or it is empty.
  """
  sizes = {name: each['num_examples'] for name, each in card['splits'].items()}
  if not sizes.get(split):
    raise errors.InputError(
      f'The dataset in {data_dir} has no split {split!r}; expected one of the'
      f' splits with posters: {[name for name, size in sizes.items() if size]}.'
    )
  return sizes[split]


@dataclasses.dataclass(frozen=True)
class PosterDataset:
  """A prepared dataset.

  Attributes:
    data_dir: folder that `prepare` wrote.
    card: the data card.
    manifest: sizes and checksums of the files.
    parts: splits that are part of a stored one: its name and indices of
      records, see `subsets`.
  """

  data_dir: str
  card: dict[str, Any]
  manifest: manifest_lib.Manifest
  parts: Mapping[str, tuple[str, np.ndarray]] = dataclasses.field(
    default_factory=dict
  )

  @property
  def genres(self) -> tuple[str, ...]:
    """The genres, in the order of the labels."""
    return tuple(self.card['genres'])

  @property
  def label_prior(self) -> np.ndarray:
    """[num_genres], the share of positives in the training split."""
    return np.asarray(self.card['label_prior'])

  def genres_without_positives(self, split: str) -> list[str]:
    """The genres that no poster of a split has."""
    counts = self.card['splits'][split]['genres']
    return [genre for genre in self.genres if not counts[genre]]

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

  @property
  def extra_columns(self) -> tuple[extra_columns.ExtraColumn, ...]:
    """The columns that are stored with each poster."""
    return extra_columns.parse(self.card['extra_columns'])

  def num_examples(self, split: str) -> int:
    """Number of posters in `split`.

    Raises:
      InputError: the dataset has no such split, or it is empty.
    """
    return split_size(self.card, split, data_dir=self.data_dir)

  def open_split(
    self, split: str, *, check_records: bool = False
  ) -> records.Split:
    """Opens the records of `split`, and checks the sizes of their files.

    Args:
      split: name of the split.
      check_records: whether to verify the checksums of the files, which reads
        all of them. Otherwise a damaged record raises when it is read.

    Raises:
      InputError: the dataset has no such split.
      DamageError: the split's files are damaged.
    """
    expected = self.num_examples(split)
    split, indices = self.parts.get(split, (split, None))
    folder = self._local_folder(split, check_records=check_records)
    try:
      builder = tfds.builder_from_directory(str(folder))
      source = builder.as_data_source(
        split=split,
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
      )
      info = builder.info.splits[split]
      shards = list(zip(info.filepaths, info.shard_lengths, strict=True))
    except Exception as e:  # Damaged files raise exceptions of many types.
      raise errors.DamageError(
        f'The split {split!r} in {self.data_dir} is damaged: {e}.'
        f' {manifest_lib.REMEDY}'
      ) from e
    if indices is None and len(source) != expected:
      raise errors.DamageError(
        f'The split {split!r} in {self.data_dir} has {len(source)} records,'
        f' expected {expected} by its data card. {manifest_lib.REMEDY}'
      )
    opened = records.Split(
      source,
      len(self.genres),
      shards=shards,
      extra_columns=self.extra_columns,
      has_text='text' in self.card,
    )
    opened.open_shards()
    return opened if indices is None else opened.part(indices)

  def verify(
    self, *, progress: collection.Progress = collection.no_progress
  ) -> None:
    """Compares all files with their checksums.

    Args:
      progress: shows the progress over the files.

    Raises:
      DamageError: files are missing or differ; the message names all of them.
    """
    manifest_lib.check(
      dataset_path(self.data_dir),
      self.manifest,
      with_checksums=True,
      progress=lambda names: progress(names, len(names), 'Reading files'),
    )

  def _local_folder(self, split, *, check_records):
    """The dataset's folder or its local copy; checks the files of the split."""
    folder = dataset_path(self.data_dir)
    shards = {
      name: entry
      for name, entry in self.manifest.items()
      if manifest_lib.is_shard(name, split)
    }
    if not files.is_remote(folder):
      manifest_lib.check(folder, shards, with_checksums=check_records)
      return folder
    local = self._copy_to_cache()
    try:
      manifest_lib.check(local, shards, with_checksums=check_records)
    except errors.DamageError as e:
      logging.warning('%s\nThe dataset is copied again.', e)
      local = self._copy_to_cache(is_damaged=True)
      manifest_lib.check(local, shards, with_checksums=check_records)
    return local

  def _copy_to_cache(self, *, is_damaged: bool = False) -> epath.Path:
    """Copies a dataset on cloud storage to the cache folder, once.

    Random access to small records on cloud storage would be slow.
    """
    folder = dataset_path(self.data_dir)
    fingerprint = whole_fingerprint(self.card['fingerprint'])
    target = files.cache_dir() / 'data' / fingerprint
    relative = pathlib.Path(folder.parent.name) / folder.name
    with files.storage_errors(epath.Path(target)):
      if is_damaged:
        shutil.rmtree(target)
      if not target.exists():
        logging.info('Copying %s to %s.', folder, target)
        # If another process on this machine is faster, its copy is kept.
        with files.replace_folder(target, overwrite=False) as temporary:
          copy(folder, temporary / relative)
    return epath.Path(target / relative)


def open_dataset(data_dir: epath.PathLike) -> PosterDataset:
  """Opens the dataset that prepare wrote to `data_dir`.

  The checksums of all files except those of the records are verified.

  Raises:
    InputError: there is no dataset.
    DamageError: a file is damaged.
  """
  card = read_card(data_dir)
  folder = dataset_path(data_dir)
  manifest = manifest_lib.read(folder)
  small = {
    name: entry
    for name, entry in manifest.items()
    if not manifest_lib.is_shard(name)
  }
  manifest_lib.check(folder, small, with_checksums=True)
  return PosterDataset(str(data_dir), card, manifest)


def copy(source: epath.Path, target: epath.Path, *, last: str = '') -> None:
  """Copies the files of a folder without subfolders.

  Args:
    source: the folder.
    target: its copy; created if necessary.
    last: name of the file to copy last, which marks the copy as complete.
  """
  target.mkdir(parents=True, exist_ok=True)
  for path in sorted(source.iterdir(), key=lambda path: path.name == last):
    path.copy(target / path.name, overwrite=True)
    watchdog.report_progress()
