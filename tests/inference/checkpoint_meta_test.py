import copy
import math

import numpy as np
import pytest

from configs import default
from genre_flax import config as config_lib
from genre_flax.inference import meta
from genre_flax.runtime import errors

STORED = {
  'config': config_lib.to_dict(default.get_config()),
  'genres': ['Drama', 'War'],
  'label_prior': [0.5, 0.1],
  'constant_answers': {'hit_at_3': [0, 1]},
  'dataset_fingerprint': 'abc',
}


def parse(**changes):
  stored = {**copy.deepcopy(STORED), **changes}
  return meta.parse(stored, origin='runs/x', allow_custom_code=False)


def test_what_was_stored_is_there():
  found = parse()
  assert found.genres == ('Drama', 'War')
  np.testing.assert_array_equal(found.label_prior, [0.5, 0.1])
  assert found.constant_answers == {'hit_at_3': (0, 1)}
  assert found.config.image_size == 224
  assert found.fingerprint == 'abc'
  # Without a calibration scores are those of the network.
  np.testing.assert_allclose(
    found.calibration.to_scores([[0.0, 1.0]])[0, 0], 0.5
  )


def test_keys_that_came_later_may_be_missing():
  config = copy.deepcopy(STORED['config'])
  del config['keep_best'], config['augment']
  stored = {k: v for k, v in STORED.items() if k != 'constant_answers'}
  found = meta.parse(
    {**stored, 'config': config}, origin='x', allow_custom_code=False
  )
  assert found.constant_answers == {}


@pytest.mark.parametrize(
  'changes',
  [
    {'genres': []},
    {'genres': ['a', 'a']},
    {'genres': ['a', 3]},
    {'genres': 'Drama'},
    {'genres': ['a', 'x' * 300]},
    {'genres': ['Drama', 'War', 'more']},
    {'label_prior': [0.5]},
    {'label_prior': [0.5, math.nan]},
    {'label_prior': 'high'},
    {'constant_answers': {'hit_at_3': [2]}},
    {'constant_answers': [1]},
    {'calibration': {'genres': ['Drama', 'War']}},
    {'config': {}},
    {'config': None},
  ],
)
def test_what_cannot_be_is_refused_with_the_workdir(changes):
  with pytest.raises(errors.InputError) as error:
    parse(**changes)
  assert 'runs/x' in str(error.value) or 'config' in str(error.value)


@pytest.mark.parametrize('size', [0, 10**9, 'large', [1]])
def test_sizes_that_no_run_has_are_refused(size):
  config = copy.deepcopy(STORED['config'])
  config['image_size'] = size
  with pytest.raises(errors.InputError, match=r'config\.image_size=.*must be'):
    parse(config=config)
