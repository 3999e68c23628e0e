"""Tests of keeping decoded posters in memory and on disk."""

import subprocess
import sys

import numpy as np
import pytest

from genre_flax.data import decoded_cache
from genre_flax.runtime import errors
from genre_flax.training import inputs
from tests.support import helpers
from tests.support import paths

SHAPE = (6, 4, 3)
NUM = 5


class Decoder:
  """Makes example i, and counts how often."""

  def __init__(self):
    self.calls = []

  def __call__(self, index):
    self.calls.append(index)
    image = np.arange(72, dtype=np.uint8).reshape(SHAPE) + index
    return {'image': image, 'labels': np.eye(3, dtype=np.float32)[index % 3]}


def disk(tmp_path):
  return decoded_cache.DiskCache(
    tmp_path / 'new' / 'file.rows',
    num_examples=NUM,
    image_shape=SHAPE,
    num_genres=3,
  )


@pytest.fixture(params=['memory', 'disk'])
def cache(request, tmp_path):
  if request.param == 'memory':
    return decoded_cache.MemoryCache(NUM, SHAPE)
  return disk(tmp_path)


def assert_right(cache, decode):
  for index in (3, 0, 3, 4, 1, 2, 0):
    got, expected = cache.get(index, decode), Decoder()(index)
    for name in ('image', 'labels'):
      assert got[name].dtype == expected[name].dtype
      np.testing.assert_array_equal(got[name], expected[name])


def test_each_poster_is_decoded_once_and_kept_as_it_is(cache):
  decode = Decoder()
  for _ in range(2):
    assert_right(cache, decode)
  assert sorted(decode.calls) == list(range(NUM))


def test_a_file_serves_later_runs_and_runs_beside_it(tmp_path):
  first, second = disk(tmp_path), disk(tmp_path)
  assert_right(first, Decoder())
  for cache in (second, disk(tmp_path)):
    decode = Decoder()
    assert_right(cache, decode)
    assert decode.calls == []


def test_another_process_reads_what_this_one_wrote(tmp_path):
  assert_right(disk(tmp_path), Decoder())
  program = (
    'import sys; from genre_flax.data import decoded_cache\n'
    'cache = decoded_cache.DiskCache(sys.argv[1], num_examples=5,'
    ' image_shape=(6, 4, 3), num_genres=3)\n'
    'print(cache.get(2, None)["image"].sum())'
  )
  printed = subprocess.run(
    [sys.executable, '-c', program, tmp_path / 'new' / 'file.rows'],
    capture_output=True,
    check=True,
    text=True,
    cwd=paths.ROOT,
  ).stdout
  # 0 + 1 + ... + 71, and 2 more for each.
  assert int(printed) == 71 * 72 // 2 + 2 * 72


def test_a_row_that_was_not_written_whole_is_decoded_again(tmp_path):
  assert_right(disk(tmp_path), Decoder())
  path = tmp_path / 'new' / 'file.rows'
  content = bytearray(path.read_bytes())
  row = len(content) // NUM
  content[2 * row + 7] ^= 1  # One bit of the image of the third poster.
  content[3 * row + 72] ^= 1  # And one of the labels of the fourth.
  path.write_bytes(content)
  decode = Decoder()
  assert_right(disk(tmp_path), decode)
  assert sorted(decode.calls) == [2, 3]


def test_memory_that_is_short_is_told(monkeypatch):
  class Memory:
    available = 400  # Bytes; five posters of 6 x 4 x 3 take 360.

  monkeypatch.setattr(decoded_cache.psutil, 'virtual_memory', lambda: Memory)
  with pytest.raises(errors.InputError, match='5 posters of 6 x 4.*cache=none'):
    decoded_cache.MemoryCache(5, SHAPE)
  decoded_cache.MemoryCache(4, SHAPE)  # 288 bytes: below 80 % of 400.


def test_a_disk_that_is_full_is_told(monkeypatch, tmp_path):
  class Usage:
    free = 500  # Bytes; five rows of 72 + 12 + 4 take 440.

  monkeypatch.setattr(decoded_cache.shutil, 'disk_usage', lambda path: Usage)
  with pytest.raises(errors.InputError) as error:
    disk(tmp_path)
  for word in ('file.rows', "cache='disk'", 'cache_dir=FOLDER'):
    assert word in str(error.value)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
  (tmp_path / 'new').write_text('a file')
  with pytest.raises(errors.InputError) as error:
    disk(tmp_path)
  assert 'file.rows' in str(error.value)
  assert '--config.dataset.cache_dir=FOLDER' in str(error.value)


@pytest.mark.parametrize('kind', ['none', 'memory', 'disk'])
def test_a_run_decodes_alike_with_every_cache(data_dir, tmp_path, kind):
  config = helpers.tiny_config(
    data_dir, **{'dataset.cache': kind, 'dataset.cache_dir': str(tmp_path)}
  )
  dataset = inputs.open_dataset(config, tmp_path)
  split, plain = (inputs.open_split(config, dataset, 'test') for _ in range(2))
  for _ in range(2):
    for index in (0, 3, 11):
      for name in ('image', 'labels'):
        np.testing.assert_array_equal(
          split[index][name], plain._decode(index)[name]
        )
  files = [path.name for path in tmp_path.glob('*.rows')]
  if kind == 'disk':
    [name] = files
    assert name.startswith(dataset.card['fingerprint'] + '_test_32x24_')
  else:
    assert files == []
