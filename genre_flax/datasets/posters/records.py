"""Random access to the records of a split, each of them whole or an error."""

from collections.abc import Sequence
import dataclasses
import itertools

from etils import epath
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from genre_flax.runtime import errors

REMEDY = 'Run prepare again with --overwrite, or copy the data set anew.'


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

  def __init__(
    self,
    source: Sequence[bytes],
    num_genres: int,
    *,
    shards: Sequence[tuple[epath.PathLike, int]] = (),
  ):
    """Wraps the source of TFDS.

    Args:
      source: of the records, each a serialized tf.train.Example.
      num_genres: number of labels.
      shards: the files that they are in, in order, and the records of each.
    """
    self._source = source
    self._shards = tuple(shards)
    self.num_genres = num_genres

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Record:
    """The record at `index`.

    Raises:
      DamageError: it cannot be read.
    """
    try:
      # Not by the parser of TFDS, which takes seven times as long.
      example = tf_example_pb2.Example.FromString(self._source[int(index)])
      # As a dict, which has no values for names that are missing.
      stored = dict(example.features.feature)
      labels = np.zeros(self.num_genres, np.float32)
      labels[list(stored['genres'].int64_list.value)] = 1.0
      return Record(
        id=stored['id'].bytes_list.value[0].decode(),
        image=stored['image'].bytes_list.value[0],
        labels=labels,
      )
    except Exception as e:  # Damaged files raise whatever their reader does.
      raise self.damage(index, e) from e

  def damage(self, index: int, error: BaseException) -> errors.DamageError:
    """The error of a record that cannot be used: where it is, what to do.

    Args:
      index: of the record.
      error: what its reader says.
    """
    words = str(error).partition('\n')[0] or type(error).__name__
    return errors.DamageError(
      f'{self._place(int(index))} cannot be read: {words}. `python -m'
      ' genre_flax.prepare --verify --data_dir=DIR` tells which files are'
      f' damaged. {REMEDY}'
    )

  def _place(self, index: int) -> str:
    """A record's place in words: its number in its file, from 0."""
    start = 0
    for path, length in self._shards:
      if index < start + length:
        return f'Record {index - start} of {path}'
      start += length
    return f'Record {index}'

  def open_shards(self) -> None:
    """Reads the header, the index and the first record of every file.

    Raises:
      DamageError: of one, they cannot be read.
    """
    lengths = (length for _, length in self._shards[:-1])
    for first in itertools.accumulate(lengths, initial=0):
      self[first]
