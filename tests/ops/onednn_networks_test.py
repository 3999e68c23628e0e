"""Every network, forward and backward, with oneDNN's convolutions and XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.models import registry

# Those that take longest to compile are for the longer half of the tests.
_NAMES = [
  pytest.param(
    name,
    marks=[pytest.mark.slow] * (name in ('convnext', 'efficientnet_lite')),
  )
  for name in sorted(registry.MODELS)
]
_SHAPES = {'poster_cnn': (96, 80), 'vit': (48, 32)}


def value_and_gradients(name):
  """A loss of a network and its gradients, in training, without dropout."""
  config = default.get_config().model
  config.name = name
  config.resnet.features, config.resnet.num_blocks = (8, 16), (1, 1)
  for key in config[name]:
    if key.endswith(('dropout_rate', 'depth_rate')):
      config[name][key] = 0.0
  model = registry.create_from_config(config, num_genres=5)
  shape = (4, *_SHAPES.get(name, (40, 32)), 3)
  images = jax.random.normal(jax.random.key(0), shape)
  init = jax.jit(functools.partial(model.init, train=False))
  variables = init(jax.random.key(1), images)

  def loss(params, images):
    logits, _ = model.apply(
      {**variables, 'params': params},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    return jnp.sin(logits + jnp.arange(5)).sum()

  step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
  lowered = step.lower(variables['params'], images)
  return step(variables['params'], images), '__onednn$' in lowered.as_text()


@pytest.mark.usefixtures('short_networks', 'with_onednn')
@pytest.mark.parametrize('name', _NAMES)
def test_every_network_computes_the_same(name, monkeypatch):
  got, has_onednn = value_and_gradients(name)
  assert has_onednn
  monkeypatch.setenv('GENRE_FLAX_ONEDNN', '0')
  jax.clear_caches()  # JAX keeps what it traced.
  expected, has_onednn = value_and_gradients(name)
  assert not has_onednn
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
    scale = max(1.0, float(np.abs(b).max()))
    np.testing.assert_allclose(a / scale, b / scale, atol=2e-5)
