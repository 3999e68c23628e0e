"""Tests of opening splits, and of the batches of a run."""

import numpy as np
import pytest

from genre_flax import config as config_lib
from genre_flax.training import inputs
from tests.support import helpers


@pytest.mark.parametrize('kind', ['none', 'memory', 'disk'])
def test_examples_do_not_depend_on_the_cache(data_dir, tmp_path, kind):
  config = helpers.tiny_config(
    data_dir, **{'dataset.cache': kind, 'dataset.cache_dir': str(tmp_path)}
  )
  dataset = inputs.open_dataset(config, tmp_path)
  split, other = (inputs.open_split(config, dataset, 'test') for _ in range(2))
  for _ in range(2):
    for index in (0, 3, 11):
      expected = other._decode(index)
      for name in ('image', 'labels'):
        np.testing.assert_array_equal(split[index][name], expected[name])
  names = [path.name for path in tmp_path.glob('*.rows')]
  expected = dataset.card['fingerprint'] + '_test_32x24_'
  assert [name[: len(expected)] for name in names] == (
    [expected] if kind == 'disk' else []
  )


@pytest.mark.parametrize('overfit_batches', [0, 2])
def test_examples_of_a_batch_are_those_of_its_labels(dataset, overfit_batches):
  config = helpers.tiny_config(
    dataset.data_dir, batch_size=20, overfit_batches=overfit_batches
  )
  sizes = config_lib.compute_sizes(config, num_train_examples=93, num_devices=1)
  batches = inputs.train_batches(
    config,
    inputs.open_split(config, dataset, 'train'),
    sizes=sizes,
    start_step=7,
  )
  batch = next(batches)
  batches.close()
  examples = inputs.batch_examples(config, dataset, sizes, 7)
  records = dataset.open_split('train')
  for labels, (index, film) in zip(batch['labels'], examples, strict=True):
    assert records[index].id == film
    np.testing.assert_array_equal(records[index].labels, labels)
