"""The TFDS builder of the posters data set."""

from collections.abc import Iterator
import math
from typing import Any

from array_record.python import array_record_module
from etils import epath
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.core import hashing

from genre_flax.datasets.posters import collection as collection_lib
from genre_flax.runtime import threads

NAME = 'posters'
VERSION = '1.0.0'
# Of a file of records; a split that has more gets several.
MAX_SHARD_BYTES = 256 * 10**6
# Random access, and no compression: a JPEG has none left in it.
_WRITER_OPTIONS = 'group_size:1,uncompressed'


class Builder(tfds.core.GeneratorBasedBuilder):
  """Stores checked posters; `genre_flax.prepare` is the way to run it.

  It takes a collection that was read and checked before, since only then are
  the label names known, and since a data set is made whole or not at all.
  """

  VERSION = tfds.core.Version(VERSION)
  RELEASE_NOTES = {'1.0.0': 'First release.'}

  def __init__(
    self,
    *,
    collection: collection_lib.Collection,
    card: dict[str, Any],
    progress: collection_lib.Progress = lambda items, total, description: items,
    **kwargs,
  ):
    """Makes a builder.

    Args:
      collection: the examples to store.
      card: the data card, kept as the data set's metadata.
      progress: shows how far the writing is.
      **kwargs: of `tfds.core.DatasetBuilder`, such as data_dir.
    """
    self._collection = collection
    self._card = card
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
        }
      ),
      supervised_keys=('image', 'genres'),
      metadata=tfds.core.MetadataDict(self._card),
    )

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    del dl_manager  # Everything is here already.
    return {
      split: self._generate_examples(split) for split in self._card['splits']
    }

  def _examples_of(self, split: str) -> list[collection_lib.Example]:
    """In the order that TFDS shuffles records into, by a hash of the id."""
    hasher = hashing.Hasher(split)
    return sorted(
      (one for one in self._collection.examples if one.split == split),
      key=lambda example: hasher.hash_key(example.id),
    )

  def _generate_examples(
    self, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    def read(example):
      return example, example.read()

    for example, image in threads.map_in_order(read, self._examples_of(split)):
      yield (
        example.id,
        {
          'id': example.id,
          'image': image,
          'genres': list(example.genres),
        },
      )

  def _generate_splits(
    self, dl_manager: tfds.download.DownloadManager, download_config: Any
  ) -> list[tfds.core.SplitInfo]:
    """Writes each record as it is read.

    TFDS itself would hold up to a gigabyte of them in memory to shuffle them,
    and needs TensorFlow for more. Here they come in the order that it would
    give them.
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
    return tfds.core.SplitInfo(
      name=split,
      shard_lengths=lengths,
      num_bytes=num_bytes,
      filename_template=template,
    )

  def _shard_lengths(self, split) -> list[int]:
    """Number of records of each file of a split, all but equal."""
    sizes = [
      one.num_bytes for one in self._collection.examples if one.split == split
    ]
    num_shards = min(len(sizes), math.ceil(sum(sizes) / MAX_SHARD_BYTES))
    ends = [
      round(len(sizes) * (number + 1) / num_shards)
      for number in range(num_shards)
    ]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
