"""Tests of the validation of checkpoint metadata."""

import copy
import math

import numpy as np
import pytest

from configs import default
from genre_flax import config as config_lib
from genre_flax.inference import checkpoint_meta
from genre_flax.runtime import errors

STORED = {
  'config': config_lib.to_dict(default.get_config()),
  'genres': ['Drama', 'War'],
  'label_prior': [0.5, 0.1],
  'constant_baseline': {'hit_at_3': [0, 1]},
  'dataset_fingerprint': 'abc',
}


def parse(**changes):
  stored = {**copy.deepcopy(STORED), **changes}
  return checkpoint_meta.parse(stored, origin='runs/x', allow_custom_code=False)


def test_valid_metadata():
  meta = parse()
  assert meta.genres == ('Drama', 'War')
  np.testing.assert_array_equal(meta.label_prior, [0.5, 0.1])
  assert meta.constant_baseline == {'hit_at_3': (0, 1)}
  assert meta.config.image_size == 224
  assert meta.fingerprint == 'abc'
  # A checkpoint without a calibration has uncalibrated scores.
  np.testing.assert_allclose(
    meta.calibration.to_scores([[0.0, 1.0]])[0, 0], 0.5
  )


@pytest.mark.parametrize(
  'changes',
  [
    {'genres': []},
    {'genres': ['a', 'a']},
    {'genres': ['a', 3]},
    {'genres': ['a', 'x' * 300]},
    {'genres': ['Drama', 'War', 'more']},
    {'label_prior': [0.5, math.nan]},
    {'label_prior': 'high'},
    {'constant_baseline': {'hit_at_3': [2]}},
    {'constant_baseline': [1]},
    {'extra_columns': [{'name': 'year', 'categories': None}]},
    {'extra_columns': [{'name': 'y', 'categories': ['a'], 'default': 7}]},
    {'calibration': {'genres': ['Drama', 'War']}},
    {'config': None},
  ],
)
def test_invalid_metadata_is_rejected_with_the_workdir(changes):
  with pytest.raises(errors.InputError) as error:
    parse(**changes)
  assert 'runs/x' in str(error.value) or 'config' in str(error.value)


@pytest.mark.parametrize('size', [0, 10**9, 'large', [1]])
def test_invalid_config_values_are_rejected(size):
  config = copy.deepcopy(STORED['config'])
  config['image_size'] = size
  with pytest.raises(errors.InputError, match=r'config\.image_size=.*must be'):
    parse(config=config)


@pytest.mark.parametrize(
  'changes',
  [
    {'optimizer': {'schedule': 'removed'}},
    {'loss': {'name': 'removed', 'removed_key': 1}},
    {'model': {'name': 'resnet', 'vit': {'size': 'G'}}},
    {'num_epochs': -1},
  ],
)
def test_keys_of_the_training_alone_are_not_checked(changes):
  parse(config=STORED['config'] | changes)


def test_keys_of_evaluation_are_checked_and_missing_ones_are_defaults():
  stored = {**STORED['config'], 'eval_crops': [1.0, 0.9]}
  del stored['pixel_mean']
  config = parse(config=stored).config
  assert tuple(config.eval_crops) == (1.0, 0.9)
  assert config.pixel_mean == 127.5
  with pytest.raises(errors.InputError, match=r'config\.eval_crops=.*must be'):
    parse(config={**stored, 'eval_crops': [2.0]})
  with pytest.raises(errors.InputError, match=r'config\.model\.vit\.size'):
    parse(config=stored | {'model': {'name': 'vit', 'vit': {'size': 'G'}}})
