"""The TFDS builder of the posters data set."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from genre_flax.datasets.posters import collection as collection_lib

NAME = 'posters'
VERSION = '1.0.0'


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
    **kwargs,
  ):
    """Makes a builder.

    Args:
      collection: the examples to store.
      card: the data card, kept as the data set's metadata.
      **kwargs: of `tfds.core.DatasetBuilder`, such as data_dir.
    """
    self._collection = collection
    self._card = card
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

  def _generate_examples(
    self, split: str
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    for example in self._collection.examples:
      if example.split == split:
        yield (
          example.id,
          {
            'id': example.id,
            'image': example.read(),
            'genres': list(example.genres),
          },
        )
