"""A prepared data set on disk: its card, and random access to its posters."""

from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from genre_flax.datasets.posters import constant_answers
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import staging
from genre_flax.runtime import errors

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
    InputError: there is no data set, or its card is damaged.
  """
  path = dataset_path(data_dir) / CARD_JSON
  if not path.exists():
    raise errors.InputError(
      f'{data_dir or "(empty)"} holds no prepared data set: there is no {path}.'
      ' Make one with `python -m genre_flax.prepare --csv=FILE --images=FOLDER'
      ' --data_dir=FOLDER`.'
    )
  try:
    return json.loads(path.read_text())
  except ValueError as e:
    raise errors.InputError(
      f'The data card {path} is damaged: {e}. Run prepare again with'
      ' --overwrite.'
    ) from None


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

  @property
  def constant_answers(self) -> dict[str, tuple[int, ...]]:
    """Indices of the genres to name where all get the same, by metric.

    Of the training split; the most frequent ones where the card does not say.
    """
    if 'constant_answers' not in self.card:
      first = np.argsort(-self.label_prior, kind='stable')
      answer = tuple(first[: constant_answers.NUM_NAMED].tolist())
      return dict.fromkeys(constant_answers.METRICS, answer)
    place = {genre: i for i, genre in enumerate(self.genres)}
    return {
      metric: tuple(place[genre] for genre in named)
      for metric, named in self.card['constant_answers'].items()
    }

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
    folder = dataset_path(self.data_dir)
    if staging.is_remote(folder):
      folder = staging.fetch(folder, key=self.card['fingerprint'])
    try:
      builder = tfds.builder_from_directory(str(folder))
      source = builder.as_data_source(
        split=split, decoders={'image': tfds.decode.SkipDecoding()}
      )
      source[0]  # The files are opened only now.
    except (OSError, RuntimeError, ValueError) as e:
      raise errors.InputError(
        f'The split {split!r} in {self.data_dir} is damaged: {e}. Run prepare'
        ' again with --overwrite.'
      ) from e
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
