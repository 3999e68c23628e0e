"""Tests of reading data sets, whole and damaged."""

from concurrent import futures
import json
import re

from etils import epath
import numpy as np
import pytest

from genre_flax.datasets.posters import data_card
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import synthetic
from genre_flax.datasets.posters import writing
from genre_flax.runtime import errors
from tests.support import prepared


def test_a_data_set_is_read_as_it_was_written(written, posters):
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


def test_the_prior_is_of_the_labels_in_train(written):
  dataset = storage.open_dataset(written)
  train = dataset.open_split('train')
  labels = np.stack([train[index].labels for index in range(len(train))])
  np.testing.assert_allclose(dataset.label_prior, labels.mean(0), rtol=1e-6)
  kinds, counts = np.unique(labels, axis=0, return_counts=True)
  assert sorted(dataset.label_sets) == sorted(
    (tuple(np.flatnonzero(kind)), count)
    for kind, count in zip(kinds, counts, strict=True)
  )


def test_the_card_lies_beside_the_records_in_json_and_markdown(
  written, posters
):
  folder = storage.dataset_path(written)
  assert json.loads((folder / 'data_card.json').read_text()) == posters.card
  markdown = (folder / 'data_card.md').read_text()
  assert markdown == data_card.to_markdown(posters.card)
  assert not (folder / 'skipped.csv').exists()


def test_records_can_be_read_from_threads(written):
  split = storage.open_dataset(written).open_split('train')
  indices = list(range(len(split))) * 4
  with futures.ThreadPoolExecutor(4) as pool:
    ids = list(pool.map(lambda index: split[index].id, indices))
  assert ids == [split[index].id for index in indices]


def test_a_missing_data_set_is_told_with_how_to_make_one(tmp_path):
  with pytest.raises(errors.InputError) as error:
    storage.open_dataset(tmp_path / 'none')
  message = str(error.value)
  assert f'{tmp_path / "none"} holds no prepared data set' in message
  assert 'python -m genre_flax.prepare --csv=FILE' in message


def test_an_unknown_split_is_told_with_those_there_are(written):
  dataset = storage.open_dataset(written)
  with pytest.raises(errors.InputError) as error:
    dataset.open_split('dev')
  message = str(error.value)
  assert "no split 'dev'" in message
  assert "['train', 'validation', 'test']" in message


def _remove(name):
  return lambda folder: (folder / name).unlink()


def _truncate_records(folder):
  [records] = folder.glob('*train.array_record*')
  records.write_bytes(records.read_bytes()[:100000])


def _remove_records(folder):
  [records] = folder.glob('*train.array_record*')
  records.unlink()


def _shorten_the_info(folder):
  path = folder / 'dataset_info.json'
  info = json.loads(path.read_text())
  for split in info['splits']:
    split['shardLengths'] = ['1']
  path.write_text(json.dumps(info))


@pytest.mark.parametrize(
  ('damage', 'words'),
  [
    (_remove_records, 'train.* is missing'),
    (_truncate_records, 'train.* has 100,000 bytes, expected'),
    (_remove('dataset_info.json'), 'dataset_info.json is missing'),
    (_remove('features.json'), 'features.json is missing'),
    (_remove('genres.labels.txt'), 'genres.labels.txt is missing'),
    (_shorten_the_info, 'dataset_info.json has .* bytes, expected'),
  ],
)
def test_damaged_files_are_told_with_the_remedy(
  written, tmp_path, damage, words
):
  damage(prepared.copy(written, tmp_path))
  with pytest.raises(errors.DamageError) as error:
    storage.open_dataset(tmp_path).open_split('train')
  assert re.search(words, str(error.value))
  assert 'Run prepare again with --overwrite' in str(error.value)


@pytest.mark.parametrize(
  ('damage', 'words'),
  [
    (_remove_records, 'Record 0 of .*train.* cannot be read'),
    (_truncate_records, 'Record 0 of .*train.* cannot be read'),
    (_remove('dataset_info.json'), "The split 'train' in .* is damaged"),
    (_shorten_the_info, 'has 1 records; its data card says'),
  ],
)
def test_damage_to_a_data_set_of_earlier_versions_is_told_too(
  written, tmp_path, damage, words
):
  damage(_without_digests(prepared.copy(written, tmp_path)))
  with pytest.raises(errors.DamageError) as error:
    storage.open_dataset(tmp_path).open_split('train')
  assert re.search(words, str(error.value))


def _without_digests(folder):
  """Makes it a data set of before there were any."""
  (folder / 'digests.json').unlink()
  card = json.loads((folder / 'data_card.json').read_text())
  del card['digests']
  (folder / 'data_card.json').write_text(json.dumps(card))
  return folder


def test_a_data_set_of_earlier_versions_is_read_and_said_to_be_unverified(
  written, tmp_path, caplog
):
  _without_digests(prepared.copy(written, tmp_path))
  assert len(storage.open_dataset(tmp_path).open_split('train'))
  assert 'read unverified' in caplog.text


def test_without_its_list_of_digests_a_data_set_is_damaged(written, tmp_path):
  (prepared.copy(written, tmp_path) / 'digests.json').unlink()
  with pytest.raises(errors.DamageError, match=r'digests\.json is missing'):
    storage.open_dataset(tmp_path)


def test_a_flipped_bit_in_a_record_is_found_where_it_is_asked_for(
  written, tmp_path
):
  [records] = prepared.copy(written, tmp_path).glob('*train.array_record*')
  content = bytearray(records.read_bytes())
  content[len(content) // 2] ^= 4
  records.write_bytes(content)
  dataset = storage.open_dataset(tmp_path)
  with pytest.raises(errors.DamageError, match='does not fit its digest'):
    dataset.open_split('train', check_records=True)
  split = dataset.open_split('train')  # Sizes and headers are as they were.
  with pytest.raises(
    errors.DamageError, match=rf'Record \d+ of {records} cannot be read'
  ):
    for index in range(len(split)):
      split[index]


def test_a_damaged_card_is_told_with_the_remedy(written, tmp_path):
  path = prepared.copy(written, tmp_path) / 'data_card.json'
  path.write_text(path.read_text()[:100])
  with pytest.raises(errors.InputError, match=r'is damaged: .*--overwrite'):
    storage.open_dataset(tmp_path)


@pytest.mark.parametrize('below', ['', 'data', 'data/deep'])
def test_a_data_dir_that_is_a_file_is_refused(tmp_path, below):
  file = epath.Path(tmp_path) / 'file'
  file.write_text('')
  with (
    pytest.raises(errors.InputError) as error,
    writing.working_in(file / below),
  ):
    pass
  assert f'{file} is a file; expected a folder' in str(error.value)
