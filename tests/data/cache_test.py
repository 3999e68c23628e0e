"""Tests of the caches of decoded posters."""

import numpy as np
import pytest

from genre_flax.data import cache as cache_lib
from genre_flax.runtime import errors

SHAPE = (6, 4, 3)
NUM = 5


class Decoder:
  """Returns example i, and records the calls."""

  def __init__(self):
    self.calls = []

  def __call__(self, index):
    self.calls.append(index)
    image = np.arange(72, dtype=np.uint8).reshape(SHAPE) + index
    return {'image': image, 'labels': np.eye(3, dtype=np.float32)[index % 3]}


def disk(tmp_path):
  return cache_lib.DiskCache(
    tmp_path / 'new' / 'file.rows',
    num_examples=NUM,
    image_shape=SHAPE,
    num_genres=3,
  )


@pytest.fixture(params=['memory', 'disk'])
def cache(request, tmp_path):
  if request.param == 'memory':
    return cache_lib.MemoryCache(NUM, SHAPE)
  return disk(tmp_path)


def assert_equal_to_decoded(cache, decode):
  for index in (3, 0, 3, 4, 1, 2, 0):
    actual, expected = cache.get(index, decode), Decoder()(index)
    for name in ('image', 'labels'):
      assert actual[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(actual[name], expected[name])


def test_each_poster_is_decoded_once(cache):
  decode = Decoder()
  for _ in range(2):
    assert_equal_to_decoded(cache, decode)
  assert sorted(decode.calls) == list(range(NUM))


def test_a_file_is_shared_by_simultaneous_and_later_runs(tmp_path):
  first, second = disk(tmp_path), disk(tmp_path)
  assert_equal_to_decoded(first, Decoder())
  for cache in (second, disk(tmp_path)):
    decode = Decoder()
    assert_equal_to_decoded(cache, decode)
    assert decode.calls == []


def test_damaged_rows_are_decoded_again(tmp_path):
  assert_equal_to_decoded(disk(tmp_path), Decoder())
  path = tmp_path / 'new' / 'file.rows'
  content = bytearray(path.read_bytes())
  row = len(content) // NUM
  content[2 * row + 7] ^= 1  # A bit of the image of the third poster.
  content[3 * row + 72] ^= 1  # A bit of the labels of the fourth poster.
  path.write_bytes(content)
  decode = Decoder()
  assert_equal_to_decoded(disk(tmp_path), decode)
  assert sorted(decode.calls) == [2, 3]


def test_insufficient_memory_is_refused(monkeypatch):
  class Memory:
    available = 400  # Bytes; five posters of 6 x 4 x 3 take 360.

  monkeypatch.setattr(cache_lib.psutil, 'virtual_memory', lambda: Memory)
  with pytest.raises(errors.InputError, match='5 posters of 6 x 4.*cache=none'):
    cache_lib.MemoryCache(5, SHAPE)
  cache_lib.MemoryCache(4, SHAPE)  # 288 bytes: below 80 % of 400.


def _fill_the_disk(monkeypatch, tmp_path):
  class Usage:
    free = 500  # Bytes; five rows of 72 + 12 + 4 take 440.

  del tmp_path
  monkeypatch.setattr(cache_lib.shutil, 'disk_usage', lambda path: Usage)


def _make_the_folder_a_file(monkeypatch, tmp_path):
  del monkeypatch
  (tmp_path / 'new').write_text('a file')


@pytest.mark.parametrize('fault', [_fill_the_disk, _make_the_folder_a_file])
def test_a_cache_that_cannot_be_created_is_refused(
  monkeypatch, tmp_path, fault
):
  fault(monkeypatch, tmp_path)
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
