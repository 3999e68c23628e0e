"""The head alone, trained on features that are computed once."""

import functools

import jax
import numpy as np
import pytest

from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import parallel
from genre_flax.training import features
from genre_flax.training import run as run_lib
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture
def config(data_dir, short_efficientnet):
  config = helpers.tiny_config(data_dir, trainable='head/.*')
  config.dataset.cache = 'features'
  config.model.name = 'efficientnet_lite'
  config.image_height, config.image_width = 48, 32
  config.eval_batch_size = 16
  for key in config.augment:
    config.augment[key] = 1.0 if key == 'crop_scale' else 0.0
  return config


def placed_state(run):
  return parallel.replicate(run.create_state())


def test_features_are_those_of_the_network(config, tmp_path):
  run = run_lib.set_up(config, tmp_path)
  state = placed_state(run)
  split = features.cached_split(run, state, 'validation')
  decoded = run.decode_split('validation')
  assert len(split) == len(decoded) == 12
  images = np.stack([decoded[i]['image'] for i in range(3)])
  apply = functools.partial(run.model.apply, train=False, method='embed')
  expected = jax.jit(apply)(
    {'params': state.params, 'batch_stats': state.batch_stats},
    (images.astype(np.float32) - 127.5) / 127.5,
  )
  for i in range(3):
    np.testing.assert_allclose(
      split[i]['features'], expected[i], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(split[i]['labels'], decoded[i]['labels'])


def test_they_are_computed_once_and_again_for_another_backbone(
  config, tmp_path, caplog
):
  caplog.set_level('INFO')
  run = run_lib.set_up(config, tmp_path)
  state = placed_state(run)
  for _ in range(2):
    features.cached_split(run, state, 'validation')
  assert caplog.text.count('Computing the features') == 1
  config.seed = 1
  other = run_lib.set_up(config, tmp_path)
  features.cached_split(other, placed_state(other), 'validation')
  assert caplog.text.count('Computing the features') == 2


def test_they_are_computed_again_for_other_options(config, tmp_path, caplog):
  caplog.set_level('INFO')
  for number, variant in enumerate((False, True), start=1):
    config.model.efficientnet_lite.stage_features = variant
    run = run_lib.set_up(config, tmp_path)
    features.cached_split(run, placed_state(run), 'validation')
    assert caplog.text.count('Computing the features') == number


def test_the_whole_network_is_served(config, dataset, tmp_path):
  train.train_and_evaluate(config, tmp_path)
  predictor = predictor_lib.restore(tmp_path, step='latest')
  predictions = predictor.evaluate_split(dataset, 'validation', batch_size=16)
  run = run_lib.set_up(config, tmp_path)
  split = features.cached_split(run, placed_state(run), 'validation')
  head = predictor.variables['params']['head']
  expected = np.stack([split[i]['features'] for i in range(12)]) @ np.asarray(
    head['kernel']
  ) + np.asarray(head['bias'])
  np.testing.assert_allclose(predictions.logits, expected, atol=1e-4)
