"""Tests of the TFDS builder, on the posters in its dummy_data folder."""

from etils import epath
import pytest
import tensorflow_datasets as tfds

from genre_flax.datasets.posters import collection
from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import posters_dataset_builder
from genre_flax.datasets.posters import sources
from genre_flax.datasets.posters import synthetic

_DUMMY_DATA = epath.Path(posters_dataset_builder.__file__).parent / 'dummy_data'


def _collect(source, spool):
  return collection.collect(
    [source],
    shares={'train': 80, 'validation': 10, 'test': 10},
    spool=epath.Path(spool),
  )


def _build(found, folder):
  builder = posters_dataset_builder.Builder(
    collection=found, card=data_card.make(found), data_dir=folder
  )
  builder.download_and_prepare()
  return builder


def _ids(builder, split):
  decoders = {'image': tfds.decode.SkipDecoding()}
  records = builder.as_data_source(split, decoders=decoders)
  return [record['id'].decode() for record in records]


@pytest.fixture(scope='module')
def forty(tmp_path_factory):
  """Forty synthetic posters, most of them in the training split."""
  files = synthetic.write_posters(
    tmp_path_factory.mktemp('synthetic'), num_posters=40
  )
  return _collect(sources.Source(*files), tmp_path_factory.mktemp('spool'))


def test_the_dummy_data_is_valid(tmp_path):
  source = sources.Source(_DUMMY_DATA / 'posters.csv', _DUMMY_DATA / 'images')
  (tmp_path / 'spool').mkdir()
  found = _collect(source, tmp_path / 'spool')
  assert found.problems == ()
  builder = _build(found, tmp_path)
  names = builder.info.features['genres'].feature.names
  assert names == sorted(synthetic.GENRES)
  splits = ('train', 'validation', 'test')
  stored = {split: sorted(_ids(builder, split)) for split in splits}
  assert sum(map(len, stored.values())) == len(found.examples) == 6
  for example in found.examples:
    assert example.id in stored[example.split]


def test_records_are_in_the_order_of_tfds(forty, tmp_path, monkeypatch):
  ours = _build(forty, tmp_path / 'ours')
  monkeypatch.delattr(posters_dataset_builder.Builder, '_generate_splits')
  theirs = _build(forty, tmp_path / 'theirs')
  for split in ('train', 'validation', 'test'):
    assert _ids(ours, split) == _ids(theirs, split)
    infos = [builder.info.splits[split] for builder in (ours, theirs)]
    assert infos[0].num_bytes == infos[1].num_bytes > 0
    assert infos[0].filenames == infos[1].filenames


def test_a_large_split_has_several_files(forty, tmp_path, monkeypatch):
  expected = _ids(_build(forty, tmp_path / 'one'), 'train')
  size = sum(e.num_bytes for e in forty.examples if e.split == 'train')
  monkeypatch.setattr(posters_dataset_builder, 'MAX_SHARD_BYTES', size // 3 + 1)
  builder = _build(forty, tmp_path / 'three')
  lengths = builder.info.splits['train'].shard_lengths
  assert len(lengths) == 3
  assert max(lengths) - min(lengths) <= 1
  assert _ids(builder, 'train') == expected
  assert sorted(path.name for path in builder.data_path.glob('*train*')) == [
    f'posters-train.array_record-0000{number}-of-00003' for number in range(3)
  ]
