"""Tests of opening splits."""

import numpy as np
import pytest

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
