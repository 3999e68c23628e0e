"""Adds the text on the posters to a prepared dataset."""

from collections.abc import Iterator
import dataclasses
from typing import Any

from absl import logging
from etils import epath
import numpy as np

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import extra_columns
from genre_flax.datasets.posters import problems as problems_lib
from genre_flax.datasets.posters import records
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import text_reading
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors
from genre_flax.runtime import threads


@dataclasses.dataclass(frozen=True, slots=True)
class StoredExample:
  """A poster of a prepared dataset, as `collection.Example`."""

  id: str
  genres: tuple[str, ...]
  split: str
  num_bytes: int
  extra: tuple[str, ...]
  stored: records.Split
  index: int

  def read(self) -> bytes:
    """The bytes of the JPEG.

    Raises:
      DamageError: the record cannot be read.
    """
    return self.stored[self.index].image


@dataclasses.dataclass(frozen=True)
class StoredCollection:
  """The posters of a prepared dataset, as `collection.Collection`."""

  examples: tuple[StoredExample, ...]
  genres: tuple[str, ...]
  problems: tuple[problems_lib.Problem, ...]
  text_of: collection_lib.TextOf | None = None


def extend(
  data_dir: epath.PathLike,
  *,
  text_reader: str = '',
  overwrite: bool = False,
  dry_run: bool = False,
  progress: collection_lib.Progress = collection_lib.no_progress,
) -> dict[str, Any]:
  """Reads the text on the posters of a dataset, and replaces the dataset.

  Ids, order, splits, genres, images, extra columns and skipped rows stay.

  Args:
    data_dir: folder of the dataset.
    text_reader: as in `poster_text.load_engine`.
    overwrite: read the text again, and replace that of another engine.
    dry_run: read the records, but no text, and write nothing.
    progress: shows the progress over posters and records.

  Returns:
    The data card.

  Raises:
    InputError: there is no dataset, or it has text of another engine.
    DamageError: the dataset is damaged.
    BusyError: another process writes to `data_dir`.
    StorageError: `data_dir` cannot be written to.
  """
  with text_reading.TextReader(text_reader) as reader:
    present = storage.read_card(data_dir).get('text')
    if present and not overwrite:
      if present['engine'] == reader.name:
        logging.info('%s contains the text on its posters already.', data_dir)
        return storage.read_card(data_dir)
      raise errors.InputError(
        f'{data_dir} contains text of the engine {present["engine"]!r}, not of'
        f' {reader.name!r}. Pass --overwrite to replace it.'
      )
    if dry_run:
      dataset = storage.open_dataset(data_dir)
      reader.log_plan(_collect(dataset, progress).examples)
      return dataset.card
    with writing.scratch_folder(data_dir) as scratch:
      dataset = storage.open_dataset(data_dir)
      collection, card = reader.add_to(
        _collect(dataset, progress), card=dataset.card, progress=progress
      )
      writing.write(
        collection,
        card=card,
        data_dir=data_dir,
        scratch=scratch,
        overwrite=True,
        progress=progress,
      )
  return card


def _collect(
  dataset: storage.PosterDataset, progress: collection_lib.Progress
) -> StoredCollection:
  """All posters of a dataset, whose checksums are verified."""
  examples: list[StoredExample] = []
  for name in dataset.card['splits']:
    split = dataset.open_split(name, check_records=True)
    stored = _read_split(split, name, dataset)
    examples += progress(stored, len(split), f'Opening {name}')
  skipped = storage.dataset_path(dataset.data_dir) / writing.SKIPPED_CSV
  problems = ()
  if skipped.exists():
    problems = problems_lib.from_csv(skipped.read_bytes().decode())
  return StoredCollection(tuple(examples), dataset.genres, problems)


def _read_split(
  split: records.Split, name: str, dataset: storage.PosterDataset
) -> Iterator[StoredExample]:
  read = threads.map_in_order(split.__getitem__, range(len(split)))
  for index, record in enumerate(read):
    yield StoredExample(
      id=record.id,
      genres=tuple(dataset.genres[i] for i in np.flatnonzero(record.labels)),
      split=name,
      num_bytes=len(record.image),
      extra=tuple(
        _cell(column, record.extra[column.name])
        for column in split.extra_columns
      ),
      stored=split,
      index=index,
    )


def _cell(column: extra_columns.ExtraColumn, value: np.ndarray) -> str:
  """A cell that `ExtraColumn.encode` turns into the value."""
  if column.categories is None:
    return repr(float(value))
  return column.categories[value - 1] if value else ''
