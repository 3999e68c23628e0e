"""Tests of reading datasets: intact, damaged, and on cloud storage."""

import re

from etils import epath
import numpy as np
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.runtime import errors
from tests.support import cloud as emulator
from tests.support import prepared


def test_a_dataset_is_read_as_it_was_written(written, posters):
  dataset = storage.open_dataset(written)
  assert dataset.genres == tuple(sorted(synthetic.GENRES))
  examples = posters.collection.examples
  for name in ('train', 'validation', 'test'):
    expected = {e.id: e for e in examples if e.split == name}
    assert dataset.num_examples(name) == len(expected) > 0
    split = dataset.open_split(name)
    assert (len(split), split.num_genres) == (len(expected), 12)
    for index in range(len(split)):
      record = split[index]
      example = expected.pop(record.id)
      assert record.image == example.path.read_bytes()
      assert record.labels.dtype == np.float32
      assert list(record.labels) == [
        float(genre in example.genres) for genre in dataset.genres
      ]
    assert not expected


def test_prior_and_label_sets_are_of_the_training_split(written):
  dataset = storage.open_dataset(written)
  train = dataset.open_split('train')
  labels = np.stack([train[index].labels for index in range(len(train))])
  np.testing.assert_allclose(dataset.label_prior, labels.mean(0), rtol=1e-6)
  kinds, counts = np.unique(labels, axis=0, return_counts=True)
  assert sorted(dataset.label_sets) == sorted(
    (tuple(np.flatnonzero(kind)), count)
    for kind, count in zip(kinds, counts, strict=True)
  )


def test_a_missing_dataset_and_an_unknown_split_are_refused(written, tmp_path):
  message = 'contains no prepared dataset.*python -m genre_flax.prepare --csv'
  with pytest.raises(errors.InputError, match=f'{tmp_path}/none {message}'):
    storage.open_dataset(tmp_path / 'none')
  message = r"no split 'dev'.*\['train', 'validation', 'test'\]"
  with pytest.raises(errors.InputError, match=message):
    storage.open_dataset(written).open_split('dev')


_DAMAGE = {
  'remove': lambda path: path.unlink(),
  'truncate': lambda path: path.write_bytes(path.read_bytes()[:100]),
  'flip': prepared.flip_bit,
}


@pytest.mark.parametrize(
  ('damage', 'pattern', 'message'),
  [
    ('remove', '*train*', 'train.* is missing'),
    ('truncate', '*train*', 'train.* has 100 bytes, expected'),
    ('remove', 'dataset_info.json', 'dataset_info.json is missing'),
    ('flip', 'dataset_info.json', 'info.json does not match its checksum'),
    ('remove', 'checksums.json', 'checksums.json is missing'),
    ('truncate', 'checksums.json', 'checksums.json is damaged'),
    ('flip', 'checksums.json', 'checksums.json is damaged'),
    ('truncate', 'data_card.json', 'data_card.json is damaged'),
  ],
)
def test_damaged_files_are_reported_with_a_remedy(
  written, tmp_path, damage, pattern, message
):
  [path] = prepared.copy(written, tmp_path).glob(pattern)
  _DAMAGE[damage](path)
  with pytest.raises(errors.DamageError) as error:
    storage.open_dataset(tmp_path).open_split('train')
  assert re.search(message, str(error.value))
  assert 'Run prepare again with --overwrite' in str(error.value)


def test_a_flipped_bit_in_a_record_is_detected(written, tmp_path):
  [records] = prepared.copy(written, tmp_path).glob('*train*')
  prepared.flip_bit(records)
  dataset = storage.open_dataset(tmp_path)
  with pytest.raises(errors.DamageError, match='does not match its checksum'):
    dataset.open_split('train', check_records=True)
  split = dataset.open_split('train')  # Checks sizes and headers only.
  with pytest.raises(
    errors.DamageError, match=rf'Record \d+ of {records} cannot be read'
  ):
    for index in range(len(split)):
      split[index]


def test_verify_reports_every_damaged_file(written, tmp_path):
  folder = prepared.copy(written, tmp_path)
  storage.open_dataset(tmp_path).verify()
  [train] = folder.glob('*train*')
  [test] = folder.glob('*-test*')
  train.write_bytes(train.read_bytes()[:-1])
  prepared.flip_bit(test)
  with pytest.raises(errors.DamageError) as error:
    storage.open_dataset(tmp_path).verify()
  assert '2 file(s) are damaged' in str(error.value)
  assert f'{test} does not match its checksum' in str(error.value)
  assert f'{train} has' in str(error.value)


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """A data_dir on gs://; the cache folder is in `tmp_path`."""
  emulator.install(monkeypatch)
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  return epath.Path('gs://bucket/data')


def _images(split):
  return [split[i].image for i in range(len(split))]


def test_a_dataset_on_cloud_storage_is_read_from_a_local_copy(
  cloud, tmp_path, caplog
):
  caplog.set_level('INFO')
  for _ in range(2):
    card = build.build_synthetic(data_dir=cloud, num_posters=40)
  assert caplog.text.count('Generating 40 synthetic posters') == 1
  dataset = storage.open_dataset(cloud)
  assert dataset.card == card
  build.build_synthetic(data_dir=tmp_path / 'local', num_posters=40)
  expected = storage.open_dataset(tmp_path / 'local').open_split('train')
  assert _images(dataset.open_split('train')) == _images(expected)
  # A damaged copy is replaced.
  [shard] = (tmp_path / 'cache').rglob('*train*')
  prepared.flip_bit(shard)
  split = dataset.open_split('train', check_records=True)
  assert 'copied again' in caplog.text
  assert _images(split) == _images(expected)
  # The second time, the copy is used.
  for path in storage.dataset_path(cloud).iterdir():
    path.unlink()
  assert len(dataset.open_split('train')) == len(expected)
  [copy] = (tmp_path / 'cache' / 'genre_flax' / 'data').iterdir()
  assert copy.name == card['fingerprint']


def test_a_copy_that_cannot_be_written_is_a_storage_error(
  cloud, tmp_path, monkeypatch
):
  build.build_synthetic(data_dir=cloud, num_posters=40)
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.raises(errors.StorageError, match='file/genre_flax/data'):
    storage.open_dataset(cloud).open_split('train')


def test_the_card_is_copied_last(tmp_path):
  source = epath.Path(tmp_path / 'source')
  source.mkdir()
  for name in ('a', 'b', 'z'):
    (source / name).write_text(name)
  target = epath.Path(tmp_path / 'target')
  (target / 'z').mkdir(parents=True)  # Copying `z` fails.
  with pytest.raises(OSError):
    storage.copy(source, target, last='z')
  assert sorted(p.name for p in target.iterdir() if p.is_file()) == ['a', 'b']
  (target / 'a').unlink()
  with pytest.raises(OSError):
    storage.copy(source, target, last='a')
  assert not (target / 'a').exists()
