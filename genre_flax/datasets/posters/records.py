"""Random access to the records of a split; damaged records raise."""

from collections.abc import Mapping, Sequence
import copy
import dataclasses
import itertools
from typing import Any

from etils import epath
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from genre_flax.datasets.posters import extra_columns as extra_columns_lib
from genre_flax.datasets.posters import manifest
from genre_flax.datasets.posters import poster_text
from genre_flax.runtime import errors


@dataclasses.dataclass(frozen=True)
class Record:
  """One stored poster.

  Attributes:
    id: id of the film.
    image: the bytes of an RGB JPEG.
    labels: float32 [num_genres] of 0 and 1.
    extra: values of the extra columns by name, scalars.
    text: lines of text on the poster; empty for a dataset without text.
  """

  id: str
  image: bytes
  labels: np.ndarray
  extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
  text: tuple[poster_text.Line, ...] = ()


class Split:
  """Random access to the records of one split; safe to use from threads.

  Attributes:
    num_genres: number of labels.
    extra_columns: of the records.
    has_text: whether the records have the text on the posters.
  """

  def __init__(
    self,
    source: Sequence[bytes],
    num_genres: int,
    *,
    shards: Sequence[tuple[epath.PathLike, int]] = (),
    extra_columns: Sequence[extra_columns_lib.ExtraColumn] = (),
    has_text: bool = False,
  ):
    """Wraps a data source of TFDS.

    Args:
      source: the records, each a serialized tf.train.Example.
      num_genres: number of labels.
      shards: paths and numbers of records of the split's files, in order.
      extra_columns: of the records.
      has_text: whether the records have the text on the posters.
    """
    self._source = source
    self._indices: Sequence[int] = range(len(source))
    self._shards = tuple(shards)
    self.num_genres = num_genres
    self.extra_columns = tuple(extra_columns)
    self.has_text = has_text

  def __len__(self) -> int:
    return len(self._indices)

  def part(self, indices: np.ndarray) -> 'Split':
    """The records at some indices."""
    part = copy.copy(self)
    part._indices = indices
    return part

  def __getitem__(self, index: int) -> Record:
    """The record at `index`.

    Raises:
      DamageError: the record cannot be read.
    """
    number = int(self._indices[index])
    try:
      # The parser of TFDS takes seven times as long.
      example = tf_example_pb2.Example.FromString(self._source[number])
      # Unlike the protobuf map, a dict raises KeyError for missing names.
      stored = dict(example.features.feature)
      labels = np.zeros(self.num_genres, np.float32)
      labels[list(stored['genres'].int64_list.value)] = 1.0
      return Record(
        id=stored['id'].bytes_list.value[0].decode(),
        image=stored['image'].bytes_list.value[0],
        labels=labels,
        extra={
          column.name: _read_number(stored[column.name], column.dtype)
          for column in self.extra_columns
        },
        text=_read_lines(stored) if self.has_text else (),
      )
    except Exception as e:  # Damaged bytes raise exceptions of many types.
      raise self.damage(index, e) from e

  def damage(self, index: int, error: BaseException) -> errors.DamageError:
    """The error for a record that cannot be read, with its file and a remedy.

    Args:
      index: index of the record.
      error: raised by its reader.
    """
    location = self._location(int(self._indices[index]))
    reason = str(error).partition('\n')[0] or type(error).__name__
    return errors.DamageError(
      f'{location} cannot be read: {reason}. `python -m'
      ' genre_flax.prepare --verify --data_dir=DIR` lists the damaged files.'
      f' {manifest.REMEDY}'
    )

  def _location(self, index: int) -> str:
    """File of a record, and its number in the file, from 0."""
    start = 0
    for path, length in self._shards:
      if index < start + length:
        return f'Record {index - start} of {path}'
      start += length
    return f'Record {index}'

  def open_shards(self) -> None:
    """Reads the header, the index and the first record of every file.

    Raises:
      DamageError: a file cannot be read.
    """
    lengths = (length for _, length in self._shards[:-1])
    for first in itertools.accumulate(lengths, initial=0):
      self[first]


def _read_number(feature: Any, dtype: np.dtype) -> np.ndarray:
  """The only value of a stored number, a scalar."""
  [value] = getattr(feature, feature.WhichOneof('kind')).value
  return np.asarray(value, dtype)


def _read_lines(stored: Mapping[str, Any]) -> tuple[poster_text.Line, ...]:
  """The lines of text of a record; float32 is rounded as before storing."""
  texts = stored['text/line'].bytes_list.value
  confidences = stored['text/confidence'].float_list.value
  sides = [round(side, 4) for side in stored['text/box'].float_list.value]
  return tuple(
    poster_text.Line(
      text.decode(), round(confidence, 3), tuple(sides[4 * i : 4 * i + 4])
    )
    for i, (text, confidence) in enumerate(zip(texts, confidences, strict=True))
  )
