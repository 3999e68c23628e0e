import ml_dtypes
import numpy as np
import pytest
import xxhash

from genre_flax.runtime import checksums

ARRAY = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_of_file_equals_xxh3(tmp_path):
  content = bytes(range(256)) * 70_000  # More than a chunk.
  (tmp_path / 'file').write_bytes(content)
  expected = xxhash.xxh3_128_hexdigest(content)
  assert checksums.of_file(tmp_path / 'file') == expected
  (tmp_path / 'empty').write_bytes(b'')
  # From the test vectors of XXH3 with 128 bits.
  expected = '99aa06d3014798d86001c324468d497f'
  assert checksums.of_file(tmp_path / 'empty') == expected


@pytest.mark.parametrize(
  'other',
  [
    ARRAY.reshape(4, 3),
    ARRAY.astype(np.float64),
    ARRAY.view(np.int32),
    np.where(ARRAY == 5, np.nextafter(ARRAY, 9, dtype=np.float32), ARRAY),
    -np.where(ARRAY == 0, 0, -ARRAY),  # Its first value is -0.
  ],
)
def test_of_array_depends_on_shape_type_and_each_bit(other):
  assert checksums.of_array(other) != checksums.of_array(ARRAY)


def test_of_array_is_independent_of_the_memory_layout():
  expected = checksums.of_array(ARRAY)
  assert checksums.of_array(np.asfortranarray(ARRAY)) == expected
  wide = np.zeros((3, 8), np.float32)
  wide[:, ::2] = ARRAY
  assert checksums.of_array(wide[:, ::2]) == expected
  for other in (np.bool_(True), np.ones((0, 3), ml_dtypes.bfloat16)):
    assert len(checksums.of_array(other)) == 32
