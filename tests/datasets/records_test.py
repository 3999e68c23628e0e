import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from genre_flax.datasets.posters import records
from genre_flax.runtime import errors


def serialize(*, without=''):
  example = tf_example_pb2.Example()
  fields = example.features.feature
  fields['id'].bytes_list.value.append(b'tt1')
  fields['image'].bytes_list.value.append(b'JPEG')
  fields['genres'].int64_list.value.extend([0, 2])
  fields.pop(without, None)
  return example.SerializeToString()


def test_a_record_is_parsed():
  record = records.Split([serialize()], 4)[0]
  assert (record.id, record.image) == ('tt1', b'JPEG')
  np.testing.assert_array_equal(record.labels, [1, 0, 1, 0])


@pytest.mark.parametrize(
  ('record', 'num_genres', 'reason'),
  [
    (serialize(without='id'), 4, "'id'"),
    (serialize(without='image'), 4, "'image'"),
    (serialize(without='genres'), 4, "'genres'"),
    (serialize(), 2, 'index 2 is out of bounds'),
    (serialize()[:-1], 4, 'Error parsing message'),
  ],
  # The order of serialized fields is random.
  ids=['id', 'image', 'genres', 'index', 'truncated'],
)
def test_a_damaged_record_raises(record, num_genres, reason):
  with pytest.raises(
    errors.DamageError, match=f'Record 0 cannot be read: {reason}'
  ):
    records.Split([record], num_genres)[0]


def test_a_record_without_the_expected_text_raises():
  with pytest.raises(errors.DamageError, match="cannot be read: 'text/line'"):
    records.Split([serialize()], 4, has_text=True)[0]
