import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import normalization
from tests.support import numerics


def test_batch_norm_averages_over_all_devices():
  x = numerics.random_array(0, (8, 2, 2, 2, 6)) * 3 + 1
  norm = normalization.BatchNorm(use_running_average=False, axis_name='batch')
  variables = norm.init(jax.random.key(0), x[0])

  def step(x):
    return norm.apply(variables, x, mutable=['batch_stats'])

  out, changed = jax.pmap(step, axis_name='batch')(x)
  flat = np.asarray(x).reshape(-1, 6)
  mean, variance = flat.mean(axis=0), flat.var(axis=0)
  np.testing.assert_allclose(
    np.asarray(out).reshape(-1, 6),
    (flat - mean) / np.sqrt(variance + 1e-3),
    atol=1e-4,
  )
  for device in range(8):
    np.testing.assert_allclose(
      changed['batch_stats']['mean'][device], 0.1 * mean, atol=1e-5
    )


@pytest.mark.parametrize('use_running_average', [False, True])
def test_batch_norm_matches_flax_with_all_gradients(use_running_average):
  images = numerics.random_array(0, (4, 3, 5, 6)) * 2 + 1
  ours = normalization.BatchNorm(use_running_average=use_running_average)
  flax = nn.BatchNorm(
    use_running_average=use_running_average, momentum=0.9, epsilon=1e-3
  )
  params = {
    'scale': 1 + numerics.random_array(1, (6,)),
    'bias': numerics.random_array(2, (6,)),
  }
  batch_stats = {
    'mean': numerics.random_array(3, (6,)),
    'var': 1 + numerics.random_array(4, (6,)) ** 2,
  }

  def run(module):
    def apply(images, scale, bias):
      out, changed = module.apply(
        {'params': {'scale': scale, 'bias': bias}, 'batch_stats': batch_stats},
        images,
        mutable=['batch_stats'],
      )
      changed = jax.tree.leaves(changed)
      return jnp.concatenate([out.ravel(), *changed])

    return apply

  numerics.assert_same_function(
    run(ours), run(flax), images, params['scale'], params['bias'], atol=1e-4
  )


@pytest.mark.parametrize('is_depthwise', [False, True])
@pytest.mark.parametrize('activation', ['', 'relu', 'relu6'])
@pytest.mark.parametrize('use_running_average', [False, True])
def test_conv_norm_matches_flax(is_depthwise, activation, use_running_average):
  features, groups = (4, 4) if is_depthwise else (6, 1)

  class ConvNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
      return normalization.ConvNorm(
        features,
        3,
        stride=2,
        activation=activation,
        feature_group_count=groups,
        use_running_average=use_running_average,
        name='conv',
      )(x)

  class Reference(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Conv(
        features,
        (3, 3),
        2,
        feature_group_count=groups,
        use_bias=False,
        name='conv',
      )(x)
      x = nn.BatchNorm(
        use_running_average=use_running_average, epsilon=1e-3, name='conv_norm'
      )(x)
      return {'': lambda x: x, 'relu': nn.relu, 'relu6': nn.relu6}[activation](
        x
      )

  x = numerics.random_array(0, (2, 7, 6, 4)) * 2
  leaves, tree = jax.tree.flatten(ConvNorm().init(jax.random.key(0), x))
  leaves = [
    abs(numerics.random_array(n, leaf.shape)) + 0.1
    for n, leaf in enumerate(leaves)
  ]

  def apply(module):
    return lambda x, *leaves: module.apply(
      jax.tree.unflatten(tree, leaves), x, mutable=['batch_stats']
    )[0]

  numerics.assert_same_function(
    apply(ConvNorm()), apply(Reference()), x, *leaves, atol=1e-3
  )


def test_conv_norm_submodules_are_numbered_without_a_name():
  class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
      for _ in range(2):
        x = normalization.ConvNorm(3, 1)(x)
      return x

  variables = Network().init(jax.random.key(0), jnp.ones((1, 2, 2, 3)))
  assert sorted(variables['params']) == [
    'BatchNorm_0',
    'BatchNorm_1',
    'Conv_0',
    'Conv_1',
  ]
