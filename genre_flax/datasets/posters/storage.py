"""A prepared data set on disk: written whole or not at all, then only read."""

from collections.abc import Sequence
import contextlib
import dataclasses
import io
import json
from typing import Any
import uuid

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from genre_flax import errors
from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import problems as problems_lib

CARD_JSON = 'data_card.json'
CARD_MARKDOWN = 'data_card.md'
SKIPPED_CSV = 'skipped.csv'


def dataset_path(data_dir: epath.PathLike) -> epath.Path:
  """Where the files lie below `data_dir`, as TFDS lays them out."""
  return (
    epath.Path(data_dir)
    / posters_dataset_builder.NAME
    / posters_dataset_builder.VERSION
  )


def write(
  collection: collection_lib.Collection,
  *,
  card: dict[str, Any],
  data_dir: epath.PathLike,
  overwrite: bool = False,
) -> bool:
  """Writes a collection as ArrayRecord files with its data card.

  All is written into a folder beside the final one, which gets its name last.
  So an interrupted run leaves nothing that reads as a data set, and of two runs
  at a time one fails.

  Args:
    collection: with at least one example.
    card: of `data_card.make`.
    data_dir: the folder that `open_dataset` takes.
    overwrite: whether to replace another data set that is there.

  Returns:
    False if this very data set was there already, and nothing was done.

  Raises:
    InputError: another data set is there.
  """
  final = dataset_path(data_dir)
  if final.exists():
    present = read_card(data_dir)['fingerprint']
    if present == card['fingerprint']:
      return False
    if not overwrite:
      raise errors.InputError(
        f'{data_dir} holds another data set (fingerprint {present}, this one'
        f' has {card["fingerprint"]}). Choose another --data_dir, or pass'
        ' --overwrite to replace it.'
      )
  final.parent.mkdir(parents=True, exist_ok=True)
  partial = final.parent / f'incomplete.{uuid.uuid4().hex[:8]}'
  try:
    _write_records(collection, card, partial)
    # TFDS has laid its files out as NAME/VERSION once more.
    written = dataset_path(partial)
    (written / CARD_JSON).write_text(json.dumps(card, indent=2) + '\n')
    (written / CARD_MARKDOWN).write_text(data_card.to_markdown(card))
    if collection.problems:
      skipped = problems_lib.to_csv(collection.problems)
      (written / SKIPPED_CSV).write_text(skipped)
    if overwrite and final.exists():
      final.rename(partial / 'replaced')
    try:
      written.rename(final)
    except OSError as e:
      raise errors.InputError(
        f'{final} appeared while it was written: does another prepare run into'
        ' this folder?'
      ) from e
  finally:
    partial.rmtree(missing_ok=True)
  return True


def _write_records(collection, card, folder):
  tfds.disable_progress_bar()
  builder = posters_dataset_builder.Builder(
    collection=collection, card=card, data_dir=folder
  )
  # TFDS prints about downloads, of which there are none.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare()


def read_card(data_dir: epath.PathLike) -> dict[str, Any]:
  """The data card of the data set in `data_dir`.

  Raises:
    InputError: there is no data set.
  """
  path = dataset_path(data_dir) / CARD_JSON
  if not path.exists():
    raise errors.InputError(
      f'{data_dir or "(empty)"} holds no prepared data set: there is no {path}.'
      ' Make one with `python -m genre_flax.prepare --csv=FILE --images=FOLDER'
      ' --data_dir=FOLDER`.'
    )
  return json.loads(path.read_text())


@dataclasses.dataclass(frozen=True)
class Record:
  """One stored poster.

  Attributes:
    id: of the film.
    image: the bytes of an RGB JPEG.
    labels: float32 [num_genres] of 0 and 1.
  """

  id: str
  image: bytes
  labels: np.ndarray


class Split:
  """Random access to the records of one split; safe to use from threads.

  Attributes:
    num_genres: number of labels.
  """

  def __init__(self, source: Sequence[dict[str, Any]], num_genres: int):
    self._source = source
    self.num_genres = num_genres

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Record:
    stored = self._source[int(index)]
    labels = np.zeros(self.num_genres, np.float32)
    labels[np.asarray(stored['genres'], int)] = 1.0
    return Record(stored['id'].decode(), stored['image'], labels)


@dataclasses.dataclass(frozen=True)
class PosterDataset:
  """A prepared data set.

  Attributes:
    data_dir: where it lies.
    card: the data card.
  """

  data_dir: str
  card: dict[str, Any]

  @property
  def genres(self) -> tuple[str, ...]:
    """The label names, in the order of the labels."""
    return tuple(self.card['genres'])

  @property
  def label_prior(self) -> np.ndarray:
    """[num_genres], the share of positives in the training split."""
    return np.asarray(self.card['label_prior'])

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

  def open_split(self, split: str) -> Split:
    """Opens the records of `split`.

    Raises:
      InputError: there is no such split, or its files are damaged.
    """
    expected = self.num_examples(split)
    builder = tfds.builder_from_directory(str(dataset_path(self.data_dir)))
    source = builder.as_data_source(
      split=split, decoders={'image': tfds.decode.SkipDecoding()}
    )
    if len(source) != expected:
      raise errors.InputError(
        f'The split {split!r} in {self.data_dir} has {len(source)} records; its'
        f' data card says {expected}. Run prepare again with --overwrite.'
      )
    return Split(source, len(self.genres))


def open_dataset(data_dir: epath.PathLike) -> PosterDataset:
  """Opens the data set that prepare wrote into `data_dir`.

  Raises:
    InputError: there is none.
  """
  return PosterDataset(str(data_dir), read_card(data_dir))
