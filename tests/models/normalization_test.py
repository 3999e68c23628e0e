import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import normalization
from tests.support import numerics


def test_batch_norm_averages_over_all_devices():
  x = numerics.random_array(0, (8, 2, 2, 2, 6)) * 3 + 1
  norm = normalization.BatchNorm(axis_name='batch')
  variables = norm.init(jax.random.key(0), x[0], use_running_average=False)

  def step(x):
    return norm.apply(
      variables, x, use_running_average=False, mutable=['batch_stats']
    )

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


@pytest.mark.parametrize('is_depthwise', [False, True])
@pytest.mark.parametrize('activation', ['', 'relu', 'relu6'])
@pytest.mark.parametrize('use_running_average', [False, True])
def test_conv_norm_matches_flax(is_depthwise, activation, use_running_average):
  features, groups = (4, 4) if is_depthwise else (6, 1)

  class Ours(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = normalization.ConvNorm(
        features,
        3,
        stride=2,
        activation=activation,
        feature_group_count=groups,
        use_running_average=use_running_average,
        name='conv',
      )(x)
      return normalization.BatchNorm(name='norm')(
        x, use_running_average=use_running_average
      )

  class Flax(nn.Module):
    @nn.compact
    def __call__(self, x):
      norm = functools.partial(
        nn.BatchNorm, use_running_average, momentum=0.9, epsilon=1e-3
      )
      x = nn.Conv(
        features,
        (3, 3),
        2,
        feature_group_count=groups,
        use_bias=False,
        name='conv',
      )(x)
      activate = {'': lambda x: x, 'relu': nn.relu, 'relu6': nn.relu6}
      return norm(name='norm')(activate[activation](norm(name='conv_norm')(x)))

  x = numerics.random_array(0, (2, 7, 6, 4)) * 2
  leaves, tree = jax.tree.flatten(Ours().init(jax.random.key(0), x))
  leaves = [
    abs(numerics.random_array(n, leaf.shape)) + 0.5
    for n, leaf in enumerate(leaves)
  ]

  def apply(module):
    def run(x, *leaves):
      variables = jax.tree.unflatten(tree, leaves)
      out, stats = module.apply(variables, x, mutable=['batch_stats'])
      stats = [leaf.ravel() for leaf in jax.tree.leaves(stats)]
      return jnp.concatenate([out.ravel(), *stats])

    return run

  numerics.assert_same_function(
    apply(Ours()), apply(Flax()), x, *leaves, atol=1e-4
  )
