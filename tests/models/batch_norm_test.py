"""BatchNorm against Flax's, over one device and several."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import batch_norm
from genre_flax.models import layers
from genre_flax.ops import ops
from tests.support import forms as support


def test_batch_norm_uses_the_statistics_of_all_devices():
  x = support.random_array(0, (8, 2, 2, 2, 6)) * 3 + 1
  norm = batch_norm.BatchNorm(use_batch_statistics=True, axis_name='batch')
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


@pytest.mark.parametrize('depthwise', [False, True])
@pytest.mark.parametrize('activation', ['', 'relu', 'relu6'])
def test_a_convolution_takes_running_statistics_up(depthwise, activation):
  class Network(nn.Module):
    folds: bool

    @nn.compact
    def __call__(self, x):
      conv = layers.DepthwiseConv(3) if depthwise else layers.Conv(6, 3)
      norm = batch_norm.BatchNorm(use_batch_statistics=False)
      if self.folds:
        return batch_norm.normalized(conv, norm, x, activation=activation)
      return ops.ACTIVATIONS[activation](norm(conv(x)))

  x = support.random_array(0, (2, 7, 6, 4)) * 2
  variables = Network(True).init(jax.random.key(0), x)
  leaves, tree = jax.tree.flatten(variables)
  variables = jax.tree.unflatten(
    tree,
    [
      abs(support.random_array(n, leaf.shape)) + 0.1
      for n, leaf in enumerate(leaves)
    ],
  )
  support.assert_same(
    *(
      lambda x, *leaves, folds=folds: Network(folds).apply(
        jax.tree.unflatten(tree, leaves), x
      )
      for folds in (True, False)
    ),
    x,
    *jax.tree.leaves(variables),
    atol=1e-3,
  )


def test_channel_moments_and_their_gradients():
  def both(moments):
    return lambda images: jnp.concatenate(moments(images))

  def plain(images):
    return images.mean(axis=(0, 1, 2)), (images**2).mean(axis=(0, 1, 2))

  support.assert_same(
    both(batch_norm.channel_moments),
    both(plain),
    support.random_array(0, (2, 3, 4, 5)),
  )


@pytest.mark.parametrize('use_batch_statistics', [True, False])
def test_batch_norm_is_flaxs_with_all_gradients(use_batch_statistics):
  images = support.random_array(0, (4, 3, 5, 6)) * 2 + 1
  ours = batch_norm.BatchNorm(use_batch_statistics=use_batch_statistics)
  flaxs = nn.BatchNorm(
    use_running_average=not use_batch_statistics, momentum=0.9, epsilon=1e-3
  )
  variables = {
    'params': {
      'scale': 1 + support.random_array(1, (6,)),
      'bias': support.random_array(2, (6,)),
    },
    'batch_stats': {
      'mean': support.random_array(3, (6,)),
      'var': 1 + support.random_array(4, (6,)) ** 2,
    },
  }

  def run(module):
    def loss(params, images):
      out, changed = module.apply(
        {**variables, 'params': params}, images, mutable=['batch_stats']
      )
      weights = jnp.cos(jnp.arange(out.size)).reshape(out.shape)
      return (out * weights).sum(), (out, changed)

    return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(
      variables['params'], images
    )

  (_, (out, changed)), gradients = run(ours)
  (_, (expected, expected_changed)), expected_gradients = run(flaxs)
  np.testing.assert_allclose(out, expected, atol=1e-4)
  for got, wanted in (
    (changed, expected_changed),
    (gradients, expected_gradients),
  ):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
