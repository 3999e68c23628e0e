"""Tests of the caches of decoded posters."""

from unittest import mock

import numpy as np
import pytest

from genre_flax.data import cache as cache_lib
from genre_flax.runtime import errors

SHAPE = (6, 4, 3)
NUM = 5


def make_example(index):
  image = np.arange(72, dtype=np.uint8).reshape(SHAPE) + index
  labels = np.eye(3, dtype=np.float32)[index % 3]
  return {'image': image, 'labels': labels, 'year': np.float32(1990 + index)}


def disk(tmp_path):
  return cache_lib.DiskCache(
    tmp_path / 'new' / 'file.rows',
    num_examples=NUM,
    blank=make_example(0),
  )


@pytest.fixture(params=['memory', 'disk'])
def cache(request, tmp_path):
  if request.param == 'memory':
    return cache_lib.MemoryCache(NUM, make_example(0))
  return disk(tmp_path)


def read(cache):
  """Compares all examples, and returns the indices that were decoded."""
  decode = mock.Mock(side_effect=make_example)
  for index in (3, 0, 3, 4, 1, 2, 0):
    actual, expected = cache.get(index, decode), make_example(index)
    assert actual.keys() == expected.keys()
    for name in expected:
      assert actual[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(actual[name], expected[name])
  return sorted(call.args[0] for call in decode.call_args_list)


def test_each_poster_is_decoded_once(cache):
  assert read(cache) == list(range(NUM))
  assert read(cache) == []


@pytest.mark.parametrize('change', [{'country': np.int32(1)}, {'year': None}])
def test_other_fields_are_refused(cache, change):
  def decode(index):
    example = make_example(index) | change
    return {name: value for name, value in example.items() if value is not None}

  with pytest.raises(ValueError, match='expected.*image.*labels.*year'):
    cache.get(0, decode)


def test_a_file_is_shared_by_simultaneous_and_later_runs(tmp_path):
  first, second = disk(tmp_path), disk(tmp_path)
  assert read(first) == list(range(NUM))
  assert read(second) == read(disk(tmp_path)) == []


def test_damaged_rows_are_decoded_again(tmp_path):
  read(disk(tmp_path))
  path = tmp_path / 'new' / 'file.rows'
  content = bytearray(path.read_bytes())
  row = len(content) // NUM
  content[2 * row + 7] ^= 1  # A bit of the image of the third poster.
  content[3 * row + 72] ^= 1  # A bit of the labels of the fourth poster.
  content[4 * row + 84] ^= 1  # A bit of the year of the fifth poster.
  path.write_bytes(content)
  assert read(disk(tmp_path)) == [2, 3, 4]


def test_insufficient_memory_is_refused(monkeypatch):
  # In bytes; five posters of 6 x 4 x 3, 3 labels and a year take 5 x 88.
  memory = mock.Mock(available=500)
  monkeypatch.setattr(cache_lib.psutil, 'virtual_memory', lambda: memory)
  with pytest.raises(errors.InputError, match='5 posters of 6 x 4.*cache=none'):
    cache_lib.MemoryCache(5, make_example(0))
  cache_lib.MemoryCache(4, make_example(0))  # 352 bytes: below 80 % of 500.


@pytest.mark.parametrize('is_full', [True, False])
def test_a_cache_that_cannot_be_created_is_refused(
  monkeypatch, tmp_path, is_full
):
  if is_full:  # In bytes; five rows of 72 + 12 + 4 + 4 take 460.
    usage = mock.Mock(free=500)
    monkeypatch.setattr(cache_lib.shutil, 'disk_usage', lambda path: usage)
  else:
    (tmp_path / 'new').write_text('a file')
  with pytest.raises(errors.InputError) as error:
    disk(tmp_path)
  for word in ('file.rows', "cache='disk'", '--config.dataset.cache_dir='):
    assert word in str(error.value)


def test_the_name_of_a_file_has_all_that_the_pixels_depend_on():
  name = cache_lib.disk_cache_name(
    fingerprint='0123', split='test', image_shape=(32, 24, 3)
  )
  expected = f'0123_test_32x24_resize2_pillow{cache_lib.PIL.__version__}.rows'
  assert name == expected
