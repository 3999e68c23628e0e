"""The TFDS builder of the posters dataset."""

from collections.abc import Iterator
import math
from typing import Any

from array_record.python import array_record_module
from etils import epath
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.core import hashing

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.datasets.posters import extra_columns
from genre_flax.runtime import threads

NAME = 'posters'
VERSION = '1.0.0'
# Target size of a file of records; larger splits get several files.
MAX_SHARD_BYTES = 256 * 10**6
# Random access without compression, since JPEGs are compressed already.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
_TEXT = tfds.features.Sequence(
  {
    'line': tfds.features.Text(doc='The characters.'),
    'confidence': tfds.features.Scalar(np.float32, doc='0 to 1.'),
    'box': tfds.features.Tensor(
      shape=(4,),
      dtype=np.float32,
      doc='Left, top, right and bottom as shares of width and height.',
    ),
  },
  doc='Lines of text on the poster, in reading order.',
)


def _encode(lines) -> list[dict[str, Any]]:
  return [
    {'line': text, 'confidence': confidence, 'box': box}
    for text, confidence, box in lines
  ]


class Builder(tfds.core.GeneratorBasedBuilder):
  """Stores validated posters; run by `genre_flax.prepare`.

  The builder takes a collection that is read and validated, since the label
  names come from it and a dataset is written completely or not at all.
  """

  VERSION = tfds.core.Version(VERSION)
  RELEASE_NOTES = {'1.0.0': 'First release.'}

  def __init__(
    self,
    *,
    collection: collection_lib.Collection,
    card: dict[str, Any],
    progress: collection_lib.Progress = collection_lib.no_progress,
    **kwargs,
  ):
    """Creates a builder.

    Args:
      collection: the examples to store.
      card: the data card, stored as the dataset's metadata.
      progress: shows the progress over the records.
      **kwargs: of `tfds.core.DatasetBuilder`, such as data_dir.
    """
    self._collection = collection
    self._card = card
    self._extra_columns = extra_columns.parse(card['extra_columns'])
    self._progress = progress
    super().__init__(file_format='array_record', **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    genres = tfds.features.ClassLabel(names=list(self._collection.genres))
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(doc='Id of the film.'),
          'image': tfds.features.Image(
            shape=(None, None, 3),
            encoding_format='jpeg',
            doc='The poster, an RGB JPEG.',
          ),
          'genres': tfds.features.Sequence(genres, doc='One or more.'),
          **{
            column.name: tfds.features.Scalar(column.dtype)
            for column in self._extra_columns
          },
          **({'text': _TEXT} if self._collection.text_of else {}),
        }
      ),
      supervised_keys=('image', 'genres'),
      metadata=tfds.core.MetadataDict(self._card),
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    del dl_manager  # Nothing to download.
    return {
      split: self._generate_examples(split) for split in self._card['splits']
    }

  def _generate_examples(
    self, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    # The shuffled order of TFDS.
    hasher = hashing.Hasher(split)
    examples = sorted(
      (one for one in self._collection.examples if one.split == split),
      key=lambda example: hasher.hash_key(example.id),
    )

    text_of = self._collection.text_of

    def read(example):
      content = example.read()
      lines = text_of(example.id, content) if text_of else ()
      return {
        'id': example.id,
        'image': content,
        'genres': list(example.genres),
        **{
          column.name: column.encode(text)
          for column, text in zip(
            self._extra_columns, example.extra, strict=True
          )
        },
        **({'text': _encode(lines)} if text_of else {}),
      }

    for record in threads.map_in_order(read, examples):
      yield record['id'], record

  def _generate_splits(
    self, dl_manager: tfds.download.DownloadManager, download_config: Any
  ) -> list[tfds.core.SplitInfo]:
    """Writes each record as it is read, in the order that TFDS would use.

    The shuffler of TFDS keeps up to a gigabyte of records in memory, and needs
    TensorFlow for more.
    """
    del download_config
    return [
      self._write_split(split, examples)
      for split, examples in self._split_generators(dl_manager).items()
    ]

  def _write_split(self, split, examples) -> tfds.core.SplitInfo:
    lengths = self._shard_lengths(split)
    template = self._get_filename_template(split_name=split)
    serializer = example_serializer.ExampleSerializer(
      self.info.features.get_serialized_info()
    )
    num_bytes = 0
    examples = iter(self._progress(examples, sum(lengths), f'Writing {split}'))
    for number, length in enumerate(lengths):
      path = template.sharded_filepath(
        shard_index=number, num_shards=len(lengths)
      )
      writer = array_record_module.ArrayRecordWriter(
        str(epath.Path(path)), _WRITER_OPTIONS
      )
      for _ in range(length):
        _, example = next(examples)
        record = serializer.serialize_example(
          self.info.features.encode_example(example)
        )
        writer.write(record)
        num_bytes += len(record)
      writer.close()
    next(examples, None)  # Completes the progress bar.
    return tfds.core.SplitInfo(
      name=split,
      shard_lengths=lengths,
      num_bytes=num_bytes,
      filename_template=template,
    )

  def _shard_lengths(self, split) -> list[int]:
    """Number of records of each file of a split; they differ by at most 1."""
    sizes = [
      one.num_bytes for one in self._collection.examples if one.split == split
    ]
    num_shards = min(len(sizes), math.ceil(sum(sizes) / MAX_SHARD_BYTES))
    ends = [
      round(len(sizes) * (number + 1) / num_shards)
      for number in range(num_shards)
    ]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
