"""Networks of the other libraries compute the same; others are skipped."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest

from benchmarks import data
from benchmarks import libraries
from benchmarks import measurement
from configs import default
from configs import finetune
from genre_flax import config as config_lib
from genre_flax.models import params as params_lib
from genre_flax.models import registry
from genre_flax.pretrained import timm_weights
from genre_flax.runtime import errors
from genre_flax.training import train_state

_NUM_GENRES = 5


def make(network, image_shape=(41, 34), trainable='.*'):
  """The spec of a small network, variables, images and logits of genre_flax."""
  config = default.get_config()
  config.image_height, config.image_width = image_shape
  config.batch_size = 2
  config.trainable = trainable
  config.model.name = network
  config.model.poster_cnn.features = (4, 6)
  config.model.poster_cnn.dense_features = (8,)
  model = registry.create_from_config(config.model, num_genres=_NUM_GENRES)
  rng = np.random.default_rng(0)
  images = rng.random((2, *image_shape, 3), np.float32)
  variables = jax.jit(model.init, static_argnames='train')(
    jax.random.key(0), images, train=False
  )
  # Biases and statistics other than 0 and 1.
  variables = jax.tree.map(
    lambda x: np.asarray(x) + 0.02 * rng.random(x.shape, np.float32), variables
  )
  logits = jax.jit(model.apply, static_argnames='train')(
    variables, images, train=False
  )
  spec = measurement.Spec(
    'torch',
    'step',
    variant='float32',
    config=config_lib.to_dict(config),
    num_steps=2,
    num_genres=_NUM_GENRES,
    num_parameters=train_state.count_parameters(variables['params']),
    image_shape=image_shape,
    **data.describe_for_timm(config),
  )
  return spec, variables, images, np.asarray(logits)


def apply_torch(network, images):
  import torch

  with torch.inference_mode():
    x = torch.from_numpy(images.transpose(0, 3, 1, 2))
    return network.eval()(x).numpy()


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize('network', ['convnext', 'vit'])
def test_timm_networks_are_equal(network):
  torch = pytest.importorskip('torch')
  pytest.importorskip('timm')
  from benchmarks import measure_torch

  spec, variables, images, logits = make(network, image_shape=(48, 32))
  other = measure_torch.make_network(spec)
  spec.check_parameters(sum(p.numel() for p in other.parameters()))
  arrays = timm_weights.from_variables(
    variables, network=network, options=spec.options
  )
  other.load_state_dict(
    {name: torch.from_numpy(array) for name, array in arrays.items()}
  )
  np.testing.assert_allclose(apply_torch(other, images), logits, atol=1e-4)


@pytest.mark.parametrize(
  'trainable', ['.*', 'head/.*', finetune.get_config().trainable]
)
def test_timm_efficientnet_lite_is_equal_with_the_same_frozen_parameters(
  trainable,
):
  torch = pytest.importorskip('torch')
  pytest.importorskip('timm')
  from benchmarks import measure_torch

  spec, variables, images, logits = make(
    'efficientnet_lite', trainable=trainable
  )
  trainer = measure_torch.Trainer(spec)
  arrays = timm_weights.from_variables(
    variables, network='efficientnet_lite', options=spec.options
  )
  trainer.network.load_state_dict(
    {name: torch.from_numpy(array) for name, array in arrays.items()},
    strict=False,  # Counters of BatchNorm.
  )
  got = apply_torch(trainer.network, images)
  np.testing.assert_allclose(got, logits, rtol=1e-3, atol=1e-3)
  trained, _ = params_lib.split(variables['params'], trainable)
  assert sum(
    p.numel() for p in trainer.network.parameters() if p.requires_grad
  ) == train_state.count_parameters(trained)
  # Training changes no statistics of frozen BatchNorm.
  trainer.train(torch.rand(2, 3, 41, 34), torch.zeros(2, _NUM_GENRES))
  mean = trainer.network.get_buffer('bn1.running_mean').numpy()
  np.testing.assert_array_equal(mean, arrays['bn1.running_mean'])


def test_poster_cnn_in_torch_is_equal():
  torch = pytest.importorskip('torch')
  pytest.importorskip('timm')
  from benchmarks import measure_torch

  spec, variables, images, logits = make('poster_cnn')
  network = measure_torch.make_network(spec)
  spec.check_parameters(sum(p.numel() for p in network.parameters()))
  layers = dict(sorted(variables['params'].items()))
  # 41 x 34 pixels become 18 x 15 and 7 x 5; PyTorch flattens channels first.
  kernel = layers['Dense_0']['kernel'].reshape(7, 5, 6, 8)
  layers['Dense_0'] = {
    **layers['Dense_0'],
    'kernel': kernel.transpose(2, 0, 1, 3).reshape(-1, 8),
  }
  kinds = (torch.nn.Conv2d, torch.nn.Linear)
  modules = [m for m in network if isinstance(m, kinds)]
  with torch.no_grad():
    for module, layer in zip(modules, layers.values(), strict=True):
      kernel = layer['kernel']
      axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
      kernel = np.ascontiguousarray(kernel.transpose(axes))
      module.weight.copy_(torch.from_numpy(kernel))
      module.bias.copy_(torch.from_numpy(layer['bias']))
  np.testing.assert_allclose(
    apply_torch(network, images), logits, rtol=1e-4, atol=1e-5
  )


def test_poster_cnn_in_keras_is_equal():
  pytest.importorskip('keras')
  pytest.importorskip('tensorflow')
  from benchmarks import measure_keras

  spec, variables, images, logits = make('poster_cnn')
  network = measure_keras.make_poster_cnn(spec)
  spec.check_parameters(network.count_params())
  weights = []
  for _, layer in sorted(variables['params'].items()):
    weights += [layer['kernel'], layer['bias']]
  network.set_weights(weights)
  np.testing.assert_allclose(
    network.predict_on_batch(images), 1 / (1 + np.exp(-logits)), atol=1e-5
  )


@pytest.mark.parametrize(
  ('library', 'variant'),
  [('torch', 'DataLoader'), ('keras', 'tf.data, antialias')],
)
def test_measurements(library, variant, monkeypatch, tmp_path):
  for package in libraries.LIBRARIES[library].packages:
    pytest.importorskip(package)
  module = importlib.import_module(f'benchmarks.measure_{library}')
  spec, _, _, _ = make('poster_cnn')
  assert set(module.measure_step(spec)) == {
    'training_images_per_second',
    'inference_images_per_second',
    'compile_seconds',
  }
  other = dataclasses.replace(spec, num_parameters=spec.num_parameters + 1)
  with pytest.raises(errors.InputError, match='different sizes'):
    module.measure_step(other)
  # The stream of images continues after the timed epoch of 3 batches.
  split = spec.config['dataset']['train_split']
  np.save(tmp_path / f'{split}.npy', np.zeros((6, _NUM_GENRES), np.float32))
  spec = dataclasses.replace(
    spec, variant=variant, files=str(tmp_path), num_examples={split: 6}
  )
  monkeypatch.setattr(
    module.measurement, 'time_batches', lambda batches, spec: len(batches)
  )
  assert module.measure_input(spec) == 6
