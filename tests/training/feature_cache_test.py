"""Tests of training a head on cached features."""

import functools

import flax.linen as nn
import jax
import numpy as np
import pytest

from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.training import feature_cache
from genre_flax.training import inputs
from genre_flax.training import restore
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers


@pytest.fixture
def config(data_dir, short_efficientnet, tmp_path):
  config = helpers.tiny_config(data_dir, trainable='head/.*')
  config.dataset.cache = 'features'
  config.dataset.cache_dir = str(tmp_path / 'cache')
  config.model.name = 'efficientnet_lite'
  config.image_height, config.image_width = 48, 32
  config.eval_batch_size = 16
  for key, value in config.augment.items():
    if isinstance(value, float):
      config.augment[key] = 1.0 if key == 'crop_scale' else 0.0
  return config


def open_split(config, workdir, name='validation'):
  """The features of a split, the network and its variables."""
  dataset, setup = setup_lib.set_up(config, workdir)
  variables = parallel.replicate(
    restore.initial_variables(config, dataset, setup.model)
  )
  split = feature_cache.open_split(
    config,
    dataset,
    name,
    model=setup.model,
    variables=variables,
  )
  return split, setup.model, variables


def test_features_equal_the_embeddings_of_the_network(
  config, dataset, tmp_path
):
  split, model, variables = open_split(config, tmp_path)
  decoded = inputs.open_split(
    helpers.tiny_config('', image_height=48, image_width=32),
    dataset,
    'validation',
  )
  assert len(split) == len(decoded) == 12
  images = np.stack([decoded[i]['image'] for i in range(3)])
  apply = functools.partial(model.apply, train=False, method='embed')
  expected = jax.jit(apply)(
    variables,
    (images.astype(np.float32) - 127.5) / 127.5,
  )
  for i in range(3):
    np.testing.assert_allclose(
      split[i]['features'], expected[i], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(split[i]['labels'], decoded[i]['labels'])


class Colors(nn.Module):
  num_genres: int
  dtype: object
  axis_name: object
  mixes_examples = False

  def setup(self):
    self.head = nn.Dense(self.num_genres)

  def embed(self, images, *, train):
    return images.mean(axis=(1, 2))

  def classify(self, embeddings, *, train):
    return self.head(embeddings)

  def __call__(self, images, *, train):
    return self.classify(self.embed(images, train=train), train=train)


def test_features_of_a_custom_network(config, dataset, tmp_path):
  config.model.name = f'{__name__}:Colors'
  split, _, _ = open_split(config, tmp_path)
  decoded = inputs.open_split(config, dataset, 'validation')
  expected = (decoded[2]['image'].mean(axis=(0, 1)) - 127.5) / 127.5
  np.testing.assert_allclose(split[2]['features'], expected, atol=1e-5)
  assert train.train(config, tmp_path).exit_status == 0
  config.model.name = 'examples.wide_net:WideNet'
  with pytest.raises(errors.InputError, match="'embed', 'classify'"):
    open_split(config, tmp_path)


@pytest.mark.parametrize(
  'changes, num_computed',
  [
    ({'model.efficientnet_lite.dropout_rate': 0.7}, 1),
    ({'seed': 1}, 2),  # Other random weights of the backbone.
    ({'model.efficientnet_lite.stage_features': True}, 2),
  ],
)
def test_features_are_computed_once_per_backbone(
  config, tmp_path, caplog, changes, num_computed
):
  caplog.set_level('INFO')
  open_split(config, tmp_path / 'first')
  assert caplog.text.count('Computing the features') == 1
  config.update_from_flattened_dict(changes)
  open_split(config, tmp_path / 'second')
  assert caplog.text.count('Computing the features') == num_computed


@pytest.mark.slow
def test_predictor_applies_backbone_and_head(config, dataset, tmp_path):
  train.train(config, tmp_path)
  predictor = predictor_lib.restore(tmp_path, step='latest')
  predictions = predictor.evaluate_split(dataset, 'validation', batch_size=16)
  split, _, _ = open_split(config, tmp_path)
  head = predictor.variables['params']['head']
  expected = np.stack([split[i]['features'] for i in range(12)]) @ np.asarray(
    head['kernel']
  ) + np.asarray(head['bias'])
  np.testing.assert_allclose(predictions.logits, expected, atol=1e-4)
