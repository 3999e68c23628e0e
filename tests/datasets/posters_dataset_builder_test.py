"""Tests of the TFDS builder, on the posters in its dummy_data folder."""

import pathlib

from etils import epath
import numpy as np
import pytest
import tensorflow_datasets as tfds

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import synthetic

_FOLDER = epath.Path(posters_dataset_builder.__file__).parent
_DUMMY_DATA = _FOLDER / 'dummy_data'


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  return collection.collect(
    [
      sources.Source(
        _DUMMY_DATA / 'posters.csv', _DUMMY_DATA / 'images', name='dummy data'
      )
    ],
    shares={'train': 80, 'validation': 10, 'test': 10},
    spool=epath.Path(tmp_path_factory.mktemp('spool')),
  )


@pytest.fixture(scope='module')
def builder(found, tmp_path_factory):
  made = posters_dataset_builder.Builder(
    collection=found,
    card=data_card.make(found),
    data_dir=tmp_path_factory.mktemp('builder'),
  )
  made.download_and_prepare()
  return made


def test_the_dummy_data_are_six_small_good_posters(found):
  assert found.problems == ()
  assert [example.split for example in found.examples] == (
    ['train'] * 4 + ['validation', 'test']
  )
  for example in found.examples:
    assert (example.height, example.width) == (60, 40)
    assert not example.is_reencoded
  files = list((_DUMMY_DATA / 'images').iterdir())
  assert len(files) == 6
  assert sum(len(path.read_bytes()) for path in files) < 16000


def test_the_builder_stores_every_poster(builder, found):
  stored = {}
  for split in ('train', 'validation', 'test'):
    for record in builder.as_data_source(
      split, decoders={'image': tfds.decode.SkipDecoding()}
    ):
      stored[record['id'].decode()] = (split, record)
  assert sorted(stored) == [example.id for example in found.examples]
  names = builder.info.features['genres'].feature.names
  for example in found.examples:
    split, record = stored[example.id]
    assert split == example.split
    assert record['image'] == example.path.read_bytes()
    genres = tuple(names[label] for label in record['genres'])
    assert genres == example.genres


def _ids(builder, split):
  source = builder.as_data_source(
    split, decoders={'image': tfds.decode.SkipDecoding()}
  )
  return [record['id'].decode() for record in source]


def _build(found, folder):
  made = posters_dataset_builder.Builder(
    collection=found, card=data_card.make(found), data_dir=folder
  )
  made.download_and_prepare()
  return made


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
  """Forty posters, all but a few to train on."""
  csv_file, image_folder = synthetic.write_posters(
    tmp_path_factory.mktemp('drawn'), num_posters=40
  )
  return collection.collect(
    [sources.Source(csv_file, image_folder)],
    shares={'train': 80, 'validation': 10, 'test': 10},
    spool=epath.Path(tmp_path_factory.mktemp('spool')),
  )


def test_the_records_are_in_the_order_that_tfds_gives_them(
  drawn, tmp_path, monkeypatch
):
  ours = _build(drawn, tmp_path / 'ours')
  monkeypatch.delattr(posters_dataset_builder.Builder, '_generate_splits')
  theirs = _build(drawn, tmp_path / 'theirs')
  for split in ('train', 'validation', 'test'):
    assert _ids(ours, split) == _ids(theirs, split)
    described = [made.info.splits[split] for made in (ours, theirs)]
    assert described[0].num_bytes == described[1].num_bytes > 0
    assert described[0].filenames == described[1].filenames


def test_a_large_split_gets_several_files(drawn, tmp_path, monkeypatch):
  whole = _ids(_build(drawn, tmp_path / 'whole'), 'train')
  sizes = [e.num_bytes for e in drawn.examples if e.split == 'train']
  monkeypatch.setattr(
    posters_dataset_builder, 'MAX_SHARD_BYTES', sum(sizes) // 3 + 1
  )
  made = _build(drawn, tmp_path / 'cut')
  lengths = made.info.splits['train'].shard_lengths
  assert len(lengths) == 3
  assert max(lengths) - min(lengths) <= 1
  assert _ids(made, 'train') == whole
  assert sorted(path.name for path in made.data_path.glob('*train*')) == [
    f'posters-train.array_record-0000{number}-of-00003' for number in range(3)
  ]


def test_tfds_decodes_the_images_by_itself(builder, found):
  record = builder.as_data_source('test')[0]
  pixels, _ = images.open_rgb(found.examples[-1].path.read_bytes())
  np.testing.assert_array_equal(record['image'], np.asarray(pixels))


def test_the_info_has_description_citation_and_names(builder):
  info = builder.info
  assert info.full_name == 'posters/1.0.0'
  assert info.description == (_FOLDER / 'README.md').read_text().strip()
  citations = (_FOLDER / 'CITATIONS.bib').read_text().strip()
  assert info.citation == citations
  assert citations.startswith('@inproceedings{chu2017movie')
  assert info.supervised_keys == ('image', 'genres')
  assert info.metadata['sources'][0]['csv'] == 'dummy data'
  assert info.features['genres'].feature.names == [
    'Action',
    'Adventure',
    'Animation',
    'Comedy',
    'Crime',
    'Documentary',
    'Drama',
    'Fantasy',
    'Horror',
    'Romance',
    'Sci-Fi',
    'Western',
  ]


def test_what_was_prepared_opens_without_the_builder(builder):
  again = tfds.builder_from_directory(builder.data_path)
  assert again.info.splits['train'].num_examples == 4
  assert again.info.description == builder.info.description
  assert again.info.citation == builder.info.citation


def test_all_tags_are_tags_that_tfds_knows():
  metadata = tfds.core.dataset_metadata
  known = metadata.valid_tags()
  lines = (_FOLDER / 'TAGS.txt').read_text().splitlines()
  tags = [line.split('#')[0].strip() for line in lines]
  assert len(tags) >= 3
  assert set(tags) <= set(known)


def test_the_folder_has_the_layout_of_tfds():
  names = {path.name for path in pathlib.Path(_FOLDER).iterdir()}
  assert names >= {
    'posters_dataset_builder.py',
    'README.md',
    'CITATIONS.bib',
    'TAGS.txt',
    'dummy_data',
    '__init__.py',
  }
