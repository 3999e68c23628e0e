"""The peers' networks compute what ours do; skipped where they are missing."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest

from benchmarks import child
from benchmarks import contenders
from benchmarks import data
from configs import default
from configs import finetune
from genre_flax import config as config_lib
from genre_flax.models import efficientnet_lite
from genre_flax.models import params as params_lib
from genre_flax.models import registry
from genre_flax.pretrained import timm_weights
from genre_flax.runtime import errors
from genre_flax.training import train_state

_NUM_GENRES = 5


def make(network, image_shape=(41, 34)):
  """The spec of a small network, our variables, images, and our logits."""
  config = default.get_config()
  config.image_height, config.image_width = image_shape
  config.batch_size = 2
  config.model.name = network
  config.model.poster_cnn.features = (4, 6)
  config.model.poster_cnn.dense_features = (8,)
  model = registry.create_from_config(config.model, num_genres=_NUM_GENRES)
  rng = np.random.default_rng(0)
  images = rng.random((2, *image_shape, 3), np.float32)
  variables = jax.jit(model.init, static_argnames='train')(
    jax.random.key(0), images, train=False
  )
  # Biases and statistics that are not 0 and 1.
  variables = jax.tree.map(
    lambda x: np.asarray(x) + 0.02 * rng.random(x.shape, np.float32), variables
  )
  logits = jax.jit(model.apply, static_argnames='train')(
    variables, images, train=False
  )
  spec = child.Spec(
    contender='peer',
    measurement='step',
    config=config_lib.to_dict(config),
    num_steps=2,
    num_cores=1,
    num_genres=_NUM_GENRES,
    num_parameters=train_state.count_parameters(variables['params']),
    stages=efficientnet_lite.make_stages(0),
    timm=data._describe_for_timm(config),
  )
  return spec, variables, images, np.asarray(logits)


def lite_layers(variables):
  """Parameters and statistics of each layer, from the input on."""
  params, stats = variables['params'], variables['batch_stats']

  def layers(*path):
    own, its_stats = params, stats
    for name in path:
      own, its_stats = own[name], its_stats.get(name, {})
    return {**own, **its_stats}

  yield from (layers('backbone', 'stem'), layers('backbone', 'stem_norm'))
  for block in sorted(n for n in params['backbone'] if n.startswith('block')):
    for name in ('expand', 'depthwise', 'project'):
      if name in params['backbone'][block]:
        yield layers('backbone', block, name)
        yield layers('backbone', block, f'{name}_norm')
  yield from (layers('backbone', 'top'), layers('backbone', 'top_norm'))
  yield layers('head')


def copy_to_torch(torch, network, layers):
  """Sets the weights of a PyTorch network, from the input on."""
  kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
  modules = [m for m in network.modules() if isinstance(m, kinds)]
  names = {'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
  with torch.no_grad():
    for module, layer in zip(modules, layers, strict=True):
      for name, value in layer.items():
        if name == 'kernel':
          value = value.transpose((3, 2, 0, 1) if value.ndim == 4 else (1, 0))
          name = 'weight'
        target = getattr(module, names.get(name, name))
        target.copy_(torch.from_numpy(value.copy()).reshape(target.shape))


def apply_torch(torch, network, images):
  network.eval()
  with torch.inference_mode():
    return network(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()


def test_efficientnet_lite_in_torch_is_ours():
  torch = pytest.importorskip('torch')
  from benchmarks import torch_networks

  spec, variables, images, logits = make('efficientnet_lite')
  network = torch_networks.make(spec)
  spec.check_parameters(sum(p.numel() for p in network.parameters()))
  copy_to_torch(torch, network, lite_layers(variables))
  np.testing.assert_allclose(
    apply_torch(torch, network, images), logits, rtol=1e-3, atol=1e-3
  )


@pytest.mark.parametrize(
  'trainable', ['.*', 'head/.*', finetune.get_config().trainable]
)
def test_efficientnet_lite_in_torch_leaves_as_much_as_it_is(trainable):
  pytest.importorskip('torch')
  from benchmarks import torch_networks

  spec, variables, *_ = make('efficientnet_lite')
  spec.config['trainable'] = trainable
  network = torch_networks.make(spec)
  trained, _ = params_lib.split(variables['params'], trainable)
  assert sum(
    p.numel() for p in network.parameters() if p.requires_grad
  ) == train_state.count_parameters(trained)


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize('network', contenders.OF_TIMM)
def test_a_network_of_timm_is_ours(network):
  torch = pytest.importorskip('torch')
  pytest.importorskip('timm')
  from benchmarks import torch_networks

  spec, variables, images, logits = make(network, image_shape=(48, 32))
  theirs = torch_networks.make(spec)
  spec.check_parameters(sum(p.numel() for p in theirs.parameters()))
  arrays = timm_weights.from_variables(
    variables, network=network, options=spec.options
  )
  theirs.load_state_dict(
    {name: torch.from_numpy(array) for name, array in arrays.items()}
  )
  got = apply_torch(torch, theirs.eval(), images)
  np.testing.assert_allclose(got, logits, atol=1e-4)


def test_poster_cnn_in_torch_is_ours():
  torch = pytest.importorskip('torch')
  from benchmarks import torch_networks

  spec, variables, images, logits = make('poster_cnn')
  network = torch_networks.make(spec)
  spec.check_parameters(sum(p.numel() for p in network.parameters()))
  layers = dict(sorted(variables['params'].items()))
  # 41 x 34 pixels are 18 x 15 and then 7 x 5; PyTorch has the channels first.
  kernel = layers['Dense_0']['kernel'].reshape(7, 5, 6, 8)
  layers['Dense_0'] = {
    **layers['Dense_0'],
    'kernel': kernel.transpose(2, 0, 1, 3).reshape(-1, 8),
  }
  copy_to_torch(torch, network, layers.values())
  np.testing.assert_allclose(
    apply_torch(torch, network, images), logits, rtol=1e-4, atol=1e-5
  )


def test_poster_cnn_in_keras_is_ours():
  pytest.importorskip('keras')
  pytest.importorskip('tensorflow')
  from benchmarks import keras_peer

  spec, variables, images, logits = make('poster_cnn')
  network = keras_peer.make_poster_cnn(spec)
  spec.check_parameters(network.count_params())
  weights = []
  for _, layer in sorted(variables['params'].items()):
    weights += [layer['kernel'], layer['bias']]
  network.set_weights(weights)
  np.testing.assert_allclose(
    network.predict_on_batch(images), 1 / (1 + np.exp(-logits)), atol=1e-5
  )


@pytest.mark.parametrize(
  ('package', 'module'), [('torch', 'torch_peer'), ('tensorflow', 'keras_peer')]
)
def test_a_peer_gives_all_numbers_and_refuses_another_network(package, module):
  pytest.importorskip(package)
  peer = importlib.import_module(f'benchmarks.{module}')
  spec, _, _, _ = make('poster_cnn')
  spec = dataclasses.replace(spec, variant='float32')
  result = peer.measure_step(spec)
  assert set(result) == {
    'num_parameters',
    'training_images_per_second',
    'inference_images_per_second',
    'compile_seconds',
  }
  spec = dataclasses.replace(spec, num_parameters=spec.num_parameters + 1)
  with pytest.raises(errors.InputError, match='not the same network'):
    peer.measure_step(spec)


@pytest.mark.parametrize(
  ('package', 'module', 'variant'),
  [
    ('torch', 'torch_peer', 'DataLoader'),
    ('tensorflow', 'keras_peer', 'tf.data, antialias'),
  ],
)
def test_input_of_a_peer_goes_on_after_what_is_timed(
  package, module, variant, monkeypatch, tmp_path
):
  pytest.importorskip(package)
  peer = importlib.import_module(f'benchmarks.{module}')
  spec, _, _, _ = make('poster_cnn')
  split = spec.config['dataset']['train_split']
  np.save(tmp_path / f'{split}.npy', np.zeros((6, _NUM_GENRES), np.float32))
  spec = dataclasses.replace(
    spec,
    variant=variant,
    files=str(tmp_path),
    num_examples={split: 6},
    num_images=6,
  )

  def count(batches, *, batch_size, num_batches):
    return {'timed': num_batches, 'all': len(batches)}

  monkeypatch.setattr(peer.measure, 'time_batches', count)
  assert peer.measure_input(spec) == {'timed': 3, 'all': 6}
