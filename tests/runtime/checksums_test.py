import ml_dtypes
import numpy as np
import pytest
import xxhash

from genre_flax.runtime import checksums


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
  content = bytes(range(256)) * 70_000  # More than is read at a time.
  path = tmp_path / 'file'
  path.write_bytes(content)
  assert checksums.of_file(path) == xxhash.xxh3_128_hexdigest(content)


def test_of_nothing_it_is_the_algorithms_own(tmp_path):
  (tmp_path / 'empty').write_bytes(b'')
  # From the test vectors of XXH3 with 128 bits.
  expected = '99aa06d3014798d86001c324468d497f'
  assert checksums.of_file(tmp_path / 'empty') == expected


ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
  'other',
  [
    ARRAY.reshape(4, 3),
    ARRAY.astype(np.float64),
    ARRAY.view(np.int32),
    np.where(ARRAY == 5, np.nextafter(ARRAY, 9, dtype=np.float32), ARRAY),
    -np.where(ARRAY == 0, 0, -ARRAY),  # Its first number is -0.
  ],
)
def test_another_array_has_another_digest(other):
  assert checksums.of_array(other) != checksums.of_array(ARRAY)


def test_how_an_array_lies_in_memory_does_not_matter():
  assert checksums.of_array(np.asfortranarray(ARRAY)) == checksums.of_array(
    ARRAY
  )
  wide = np.zeros((3, 8), np.float32)
  wide[:, ::2] = ARRAY
  assert checksums.of_array(wide[:, ::2]) == checksums.of_array(ARRAY)


@pytest.mark.parametrize('dtype', [ml_dtypes.bfloat16, np.bool_, np.int32])
def test_numbers_of_all_kinds_have_one(dtype):
  for shape in ((), (0, 3), (2, 2)):
    array = np.ones(shape, dtype)
    assert len(checksums.of_array(array)) == 32


def test_the_order_of_keys_does_not_matter():
  one, two = {'a': 1, 'b': [0.1]}, {'b': [0.1], 'a': 1}
  assert checksums.of_json(one) == checksums.of_json(two)
  assert checksums.of_json(one) != checksums.of_json({'a': 1, 'b': [0.2]})
