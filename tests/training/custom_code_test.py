"""Tests of custom networks, losses and optimizers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.inference import predictor as predictor_lib
from genre_flax.models import registry
from genre_flax.runtime import errors
from genre_flax.training import losses
from genre_flax.training import optimizer
from genre_flax.training import setup
from genre_flax.training import train
from tests.support import helpers

HERE = __name__


class Net(nn.Module):
  num_genres: int
  dtype: object
  axis_name: object
  width: int = 4
  layer: str = 'head'
  use_bias: bool = True
  mixes_examples = False

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.relu(nn.Dense(self.width)(images.mean(axis=(1, 2))))
    return nn.Dense(self.num_genres, self.use_bias, name=self.layer)(x)


class Silent(Net):
  mixes_examples = None


def make_list(**kwargs):
  return list(kwargs)


def squared(logits, labels, *, scale=1.0):
  return scale * ((jax.nn.sigmoid(logits) - labels) ** 2).sum(axis=-1)


def elementwise(logits, labels):
  return logits * labels


def custom_config(data_dir, **changes):
  names = {
    'model.name': f'{HERE}:Net',
    'loss.name': f'{HERE}:squared',
    'optimizer.name': 'optax:scale_by_lion',
  }
  config = helpers.tiny_config(data_dir, **names)
  config.model.options = {'width': 6}
  config.loss.options = {'scale': 2.0}
  config.optimizer.options = {'b1': 0.8}
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


def test_custom_network_is_trained_and_restored(data_dir, tmp_path):
  changes = {'optimizer.name': 'optax:lion', 'optimizer.weight_decay': 0.0}
  config = custom_config(data_dir, **changes)
  assert train.train(config, tmp_path).exit_status == 0
  with pytest.raises(errors.InputError, match='allow_custom_code'):
    predictor_lib.restore(tmp_path)
  predictor = predictor_lib.restore(tmp_path, allow_custom_code=True)
  assert predictor.variables['params']['Dense_0']['kernel'].shape == (3, 6)
  images = np.zeros((2, 32, 24, 3), np.uint8)
  size = predictor.fit_batch_size(2)
  assert predictor.predict(images, batch_size=size).shape == (
    2,
    len(predictor.genres),
  )


def test_custom_loss(data_dir):
  config = custom_config(data_dir).loss
  loss = losses.make_loss(config, label_prior=[0.5, 0.5], num_examples=4)
  logits, labels = jnp.zeros((3, 2)), jnp.array([[1.0, 0], [1, 1], [0, 0]])
  # Each error is one half: 2 genres x 0.25, times the scale of 2.
  np.testing.assert_array_equal(loss(logits, labels), [1.0, 1, 1])


def test_custom_optimizer(data_dir):
  config = custom_config(data_dir).optimizer
  config.weight_decay = 0.0
  params = {'head/bias': jnp.array([1.0, 1.0])}
  made = optimizer.make_optimizer(
    config, learning_rate_fn=lambda step: 0.5, param_shapes=params
  )
  updates, _ = made.update(
    {'head/bias': jnp.array([3.0, -0.1])}, made.init(params), params
  )
  # Lion updates by the sign of the gradient.
  np.testing.assert_allclose(updates['head/bias'], [-0.5, 0.5])


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'model.name': 'no_nets:Net'}, "No module named 'no_nets'"),
    ({'model.name': f'{HERE}:Wrong'}, 'no attribute'),
    ({'model.options.depth': 3}, 'depth'),
    ({'model.options.layer': 'last'}, "no layer 'head'.*last"),
    ({'model.options.use_bias': False}, 'head_bias_from_prior=True needs'),
    ({'model.name': f'{HERE}:Silent'}, 'mixes_examples'),
    ({'model.name': f'{HERE}:make_list'}, 'returns a list'),
    (
      {'loss.options.scales': 3.0, 'loss.options.b': 1},
      r"\['scale'\], and not\n.*options.b\n.*scales; .* 'scale'",
    ),
    (
      {'loss.name': f'{HERE}:elementwise', 'loss.options': {}},
      r'\(2, \d+\).*expected one loss per example',
    ),
    (
      {'optimizer.name': f'{HERE}:make_list'},
      'returns a list; expected an optax.GradientTransformation',
    ),
    ({'optimizer.options.b9': 0.5}, 'optimizer.options.b9'),
    ({'optimizer.schedule_options.a': 1}, 'schedule_options=.*of your own'),
    ({'pretrained': 'timm:a'}, 'published_network'),
    ({'loss.class_balanced_beta': 0.9}, 'for the built-in losses'),
    ({'loss.name': 'focal'}, 'config.loss.options=.*of your own'),
    ({'model.name': 'tiny'}, 'config.model.options=.*of your own'),
  ],
)
def test_invalid_custom_code_is_refused_at_set_up(
  data_dir, tmp_path, changes, message
):
  with pytest.raises(errors.InputError, match=message):
    setup.set_up(custom_config(data_dir, **changes), tmp_path)


class Short(Net):
  @nn.compact
  def __call__(self, images, *, train):
    return nn.Dense(2, name='head')(images.mean(axis=(1, 2)))


def test_logits_with_another_shape_are_refused():
  model = registry.create_model(f'{HERE}:Short', num_genres=5)
  with pytest.raises(errors.InputError, match=r'\(2, 2\).*float32 \(2, 5\)'):
    registry.variable_shapes(
      model, name=f'{HERE}:Short', image_shape=(8, 8), num_genres=5
    )
