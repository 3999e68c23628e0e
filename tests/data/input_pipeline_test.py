import dataclasses
import itertools
import re
import shutil
from unittest import mock

import numpy as np
import pytest

from genre_flax.data import cache as cache_lib
from genre_flax.data import input_pipeline
from genre_flax.datasets.posters import images
from genre_flax.datasets.posters import records
from genre_flax.datasets.posters import storage
from genre_flax.runtime import errors
from tests.support import prepared

SHAPE = (6, 4)


class FakeSplit:
  """Records with gray level 10 i and label i % 3."""

  num_genres = 3
  extra_columns = ()

  def __init__(self, length):
    self._length = length

  def __len__(self):
    return self._length

  def __getitem__(self, index):
    gray = images.Image.new('RGB', (4, 6), (10 * int(index),) * 3)
    labels = np.eye(3, dtype=np.float32)[index % 3]
    return records.Record(f'id{index}', images.to_jpeg(gray), labels)


def decoded(length, **kwargs):
  return input_pipeline.DecodedSplit(
    FakeSplit(length), image_shape=SHAPE, **kwargs
  )


def make_options(batch_size, host=(0, 1), *, threads=1):
  return input_pipeline.LoaderOptions(
    global_batch_size=batch_size,
    num_threads=threads,
    prefetch_batches=3,
    host_index=host[0],
    num_hosts=host[1],
  )


def take_train(split, count, *, host=(0, 1), start=0, seed=0, threads=1):
  options = make_options(4, host, threads=threads)
  batches = input_pipeline.train_batches(
    split, options, seed=seed, start_step=start
  )
  taken = list(itertools.islice(batches, count))
  batches.close()
  return taken


def indices_of(batch):
  """Indices of the records, from their gray levels."""
  return [round(float(image.mean()) / 10) for image in batch['image']]


class TestTrainBatches:
  def test_shapes_and_values(self):
    (batch,) = take_train(decoded(9), 1)
    assert {name: (a.shape, a.dtype.name) for name, a in batch.items()} == {
      'image': ((4, *SHAPE, 3), 'uint8'),
      'labels': ((4, 3), 'float32'),
      'mask': ((4,), 'float32'),
      'index': ((4,), 'int32'),
    }
    assert batch['mask'].tolist() == [1, 1, 1, 1]
    assert batch['index'].tolist() == [0, 1, 2, 3]
    for index, labels in zip(indices_of(batch), batch['labels'], strict=True):
      assert labels.tolist() == np.eye(3)[index % 3].tolist()

  def test_every_epoch_is_another_permutation(self):
    indices = sum(map(indices_of, take_train(decoded(10), 10)), [])
    epochs = [indices[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4

  def test_the_order_depends_on_the_seed(self):
    first, again, other = (
      list(map(indices_of, take_train(decoded(10), 5, seed=seed)))
      for seed in (1, 1, 2)
    )
    assert first == again != other

  def test_the_order_is_that_of_earlier_versions(self):
    indices = map(indices_of, take_train(decoded(10), 5, seed=3))
    assert list(indices) == [
      [4, 6, 9, 7],
      [5, 3, 1, 8],
      [2, 0, 8, 1],
      [3, 7, 9, 0],
      [5, 4, 2, 6],
    ]

  @pytest.mark.parametrize('number', [1, 2, 3])
  def test_the_first_batches_are_repeated(self, number):
    options = make_options(4)
    batches = input_pipeline.train_batches(
      decoded(10), options, seed=3, start_step=5, overfit_batches=number
    )
    first = [[4, 6, 9, 7], [5, 3, 1, 8], [2, 0, 8, 1]][:number]
    taken = map(indices_of, itertools.islice(batches, 7))
    assert list(taken) == [first[step % number] for step in range(5, 12)]
    batches.close()

  @pytest.mark.parametrize('start', [0, 1, 2, 7])
  @pytest.mark.parametrize('threads', [2, 4, None])
  def test_batches_depend_on_the_step_alone(self, start, threads):
    resumed = take_train(decoded(10), 3, start=start, threads=threads)
    uninterrupted = take_train(decoded(10), start + 3)[start:]
    for actual, expected in zip(resumed, uninterrupted, strict=True):
      assert actual.keys() == expected.keys()
      for name in actual:
        np.testing.assert_array_equal(actual[name], expected[name])

  @pytest.mark.parametrize('num_hosts', [2, 4])
  def test_the_slices_of_the_hosts_are_the_global_batch(self, num_hosts):
    split = decoded(10)
    hosts = [
      take_train(split, 5, host=(host, num_hosts)) for host in range(num_hosts)
    ]
    for step, whole in enumerate(take_train(split, 5)):
      slices = [host[step] for host in hosts]
      for name in whole:
        together = np.concatenate([batch[name] for batch in slices])
        np.testing.assert_array_equal(together, whole[name])


class TestEvalBatches:
  @pytest.mark.parametrize('num_hosts', [1, 2, 3, 4])
  @pytest.mark.parametrize('length', [0, 1, 2, 5, 11, 12, 13, 19])
  def test_every_example_is_read_once(self, length, num_hosts):
    hosts = [
      list(
        input_pipeline.eval_batches(
          decoded(length), make_options(12, (host, num_hosts))
        )
      )
      for host in range(num_hosts)
    ]
    expected = -(-length // 12)
    assert [len(batches) for batches in hosts] == [expected] * num_hosts
    indices = []
    for batch in itertools.chain(*hosts):
      assert batch['image'].shape == (12 // num_hosts, *SHAPE, 3)
      is_real = batch['mask'] > 0
      real = [i for i, m in zip(indices_of(batch), is_real, strict=True) if m]
      assert real == batch['index'][is_real].tolist()
      assert not batch['image'][~is_real].any()
      indices += real
    assert sorted(indices) == list(range(length))


def test_posters_are_read_through_the_cache():
  cache = mock.Mock()
  cache.get = lambda index, decode: {'image': -decode(index)['image']}
  split = decoded(3, cache=cache)
  assert [int(split[i]['image'].mean()) for i in range(3)] == [0, 246, 236]


@pytest.mark.parametrize('is_cached', [False, True])
def test_all_fields_of_an_example_are_kept_and_required(is_cached):
  class WithYear(input_pipeline.DecodedSplit):
    def _decode(self, index):
      year = {} if index == 9 else {'year': np.float32(1900 + index)}
      return {**super()._decode(index), **year}

    def blank_example(self):
      return {**super().blank_example(), 'year': np.float32(0)}

  def batches(length):
    split = WithYear(FakeSplit(length), image_shape=SHAPE)
    if is_cached:
      cache = cache_lib.MemoryCache(length, split.blank_example())
      split = dataclasses.replace(split, cache=cache)
    return list(input_pipeline.eval_batches(split, make_options(12)))

  [batch] = batches(9)
  assert batch['year'].tolist() == [*range(1900, 1909), 0, 0, 0]
  with pytest.raises(ValueError, match="expected.*'year'"):
    batches(10)


def test_labels_of_a_prepared_dataset(dataset):
  split = input_pipeline.DecodedSplit(
    dataset.open_split('test'), image_shape=(30, 20)
  )
  assert len(split) == dataset.num_examples('test')
  total = sum(split[i]['labels'] for i in range(len(split)))
  counts = dataset.card['splits']['test']['genres']
  assert total.tolist() == [counts[genre] for genre in dataset.genres]


def test_a_record_damaged_after_verification_is_reported(tmp_path, data_dir):
  shutil.copytree(data_dir, tmp_path / 'data')
  dataset = storage.open_dataset(tmp_path / 'data')
  split = input_pipeline.DecodedSplit(
    dataset.open_split('train', check_records=True), image_shape=SHAPE
  )
  [shard] = (tmp_path / 'data').rglob('*train.array_record*')
  prepared.flip_bit(shard)
  with pytest.raises(errors.DamageError) as error:
    take_train(split, 40)
  assert re.search(rf'Record \d+ of {shard} cannot be read', str(error.value))
  assert '--verify' in str(error.value)
