import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

from genre_flax.datasets.posters import records
from genre_flax.runtime import errors


def serialize(*, without=''):
  example = tf_example_pb2.Example()
  fields = example.features.feature
  fields['id'].bytes_list.value.append(b'tt1')
  fields['image'].bytes_list.value.append(b'of a JPEG')
  fields['genres'].int64_list.value.extend([0, 2])
  fields.pop(without, None)
  return example.SerializeToString()


def test_a_record_is_what_was_stored():
  record = records.Split([serialize()], 4)[0]
  assert (record.id, record.image) == ('tt1', b'of a JPEG')
  np.testing.assert_array_equal(record.labels, [1, 0, 1, 0])


@pytest.mark.parametrize('name', ['id', 'image', 'genres'])
def test_a_record_without_one_of_its_fields_is_damaged(name):
  split = records.Split([serialize(without=name)], 4)
  with pytest.raises(
    errors.DamageError, match=f"Record 0 cannot be read: '{name}'"
  ):
    split[0]


def test_a_genre_that_is_none_of_the_data_set_is_damage():
  split = records.Split([serialize()], 2)
  with pytest.raises(errors.DamageError, match='Record 0 cannot be read'):
    split[0]
