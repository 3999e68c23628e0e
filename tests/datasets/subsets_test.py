"""Tests of shares of the training split and of folds."""

import collections

import numpy as np
import pytest

from genre_flax.datasets.posters import records
from genre_flax.datasets.posters import storage
from genre_flax.datasets.posters import subsets
from genre_flax.runtime import errors


def select(dataset, **options):
  names = {'train_split': 'train', 'validation_split': 'validation'}
  return subsets.select(dataset, names | options)


def read(dataset, split):
  opened = dataset.open_split(split)
  return [opened[i] for i in range(len(opened))]


def ids_of(dataset, split):
  return [record.id for record in read(dataset, split)]


def test_the_whole_dataset_is_the_default(dataset):
  assert select(dataset) is dataset
  assert select(dataset, train_share=1.0, fold='') is dataset


def test_a_smaller_share_is_a_subset(dataset):
  parts = [select(dataset, train_share=share) for share in (0.1, 0.3, 0.6, 1.0)]
  ids = [ids_of(part, 'train') for part in parts]
  for smaller, larger in zip(ids, ids[1:], strict=False):
    assert set(smaller) < set(larger)
    assert smaller == [each for each in larger if each in smaller]
  # Of 93 posters; three standard deviations of a binomial are 9, 13 and 14.
  sizes = [len(each) for each in ids]
  np.testing.assert_array_less(
    np.abs(np.array(sizes[:3]) - [9.3, 27.9, 55.8]), [9, 13, 14]
  )
  for part in parts:
    for split in ('validation', 'test'):
      assert ids_of(part, split) == ids_of(dataset, split)


def test_folds_are_a_partition_of_the_training_split(dataset):
  folds = [select(dataset, fold=f'{number}/3') for number in (1, 2, 3)]
  whole = ids_of(dataset, 'train')
  validation = [ids_of(fold, 'validation') for fold in folds]
  assert sorted(sum(validation, [])) == sorted(whole)
  for fold, held_out in zip(folds, validation, strict=True):
    assert len(held_out) > 15
    train = ids_of(fold, 'train')
    assert sorted(train + held_out) == sorted(whole)
    assert ids_of(fold, 'test') == ids_of(dataset, 'test')
  halved = select(dataset, fold='1/3', train_share=0.5)
  assert ids_of(halved, 'validation') == validation[0]
  share = ids_of(select(dataset, train_share=0.5), 'train')
  expected = [each for each in share if each not in validation[0]]
  assert ids_of(halved, 'train') == expected


def test_the_card_describes_the_part(dataset):
  part = select(dataset, fold='2/3', train_share=0.5)
  train = read(part, 'train')
  labels = np.stack([record.labels for record in train])
  assert part.num_examples('train') == len(train)
  assert part.num_examples('validation') == len(ids_of(part, 'validation'))
  np.testing.assert_allclose(part.label_prior, labels.mean(axis=0))
  counts = collections.Counter(tuple(np.flatnonzero(row)) for row in labels)
  assert dict(part.label_sets) == counts
  numbers = [count for _, count in part.label_sets]
  assert numbers == sorted(numbers, reverse=True)
  fingerprint = dataset.card['fingerprint']
  expected = f'{fingerprint}-fold2of3-validation-share0.5-train'
  assert part.card['fingerprint'] == expected
  assert storage.whole_fingerprint(part.card['fingerprint']) == fingerprint


class FakeDataset(storage.PosterDataset):
  """Posters of 300 films; every third film has two posters."""

  IDS = tuple(
    name
    for film in range(300)
    for name in (f'tt{film}', *([f'tt{film}#2'] if film % 3 == 0 else ()))
  )

  def open_split(self, split, *, check_records=False):
    labels = np.ones(1, np.float32)
    return [records.Record(name, b'', labels) for name in self.IDS]


def test_films_and_identical_images_share_a_fold():
  groups = [['tt1', 'tt2'], ['tt7#2', 'tt2', 'tt5'], ['tt10', 'tt11', 'tt1']]
  card = {
    'duplicates': {'identical_images': groups},
    'fingerprint': 'abc',
    'genres': ['Drama'],
    'splits': {},
  }
  dataset = FakeDataset('', card, {})
  fold_of = {}
  for number in range(1, 11):
    part = select(dataset, fold=f'{number}/10')
    for index in part.parts['validation'][1]:
      fold_of[FakeDataset.IDS[index]] = number
  assert fold_of.keys() == set(FakeDataset.IDS)
  for film in range(0, 300, 3):
    assert fold_of[f'tt{film}'] == fold_of[f'tt{film}#2']
  together = {fold_of[f'tt{film}'] for film in (1, 2, 5, 7, 10, 11)}
  assert len(together) == 1
  sizes = collections.Counter(fold_of.values())
  assert len(sizes) == 10
  assert max(sizes.values()) < 70  # Of 400; 40 are expected.


def test_an_empty_part_is_refused(dataset):
  with pytest.raises(errors.InputError, match='train_share=1e-06.*no poster'):
    select(dataset, train_share=1e-6)


def test_a_damaged_record_is_reported_at_its_place(dataset):
  part = select(dataset, fold='1/3')
  stored, indices = part.parts['train']
  error = part.open_split('train').damage(4, ValueError('broken'))
  assert stored == 'train'
  assert f'Record {indices[4]} of ' in str(error)
