"""Converted ONNX models compute the same numbers as JAX."""

import flax.linen as nn
import jax
from jax import export
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import registry
from genre_flax.runtime import errors

onnx = pytest.importorskip('onnx', reason='onnx is not installed (9 MB)')
onnxruntime = pytest.importorskip(
  'onnxruntime', reason='onnxruntime is not installed (28 MB)'
)

from genre_flax.export.onnx_converter import converter  # noqa: E402
from genre_flax.runtime import target  # noqa: E402


def convert(function, shape, dtype=jnp.uint8):
  sizes = ', '.join(map(str, shape))
  spec = jax.ShapeDtypeStruct(export.symbolic_shape(f'batch, {sizes}'), dtype)
  return converter.convert(
    function,
    {'images': spec},
    output_names=('scores', 'logits'),
    metadata={},
  )


def assert_equal_outputs(function, model, images, *, rtol, atol):
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=['CPUExecutionProvider']
  )
  outputs = session.run(['scores', 'logits'], {'images': images})
  for output, expected in zip(outputs, jax.jit(function)(images), strict=True):
    assert output.shape == (len(images), 5)
    np.testing.assert_allclose(output, expected, rtol=rtol, atol=atol)


def prediction_function(model, *, height, width):
  """(scores, logits) of a network with statistics other than 0 and 1."""
  variables = jax.jit(model.init, static_argnames='train')(
    jax.random.key(0), jnp.zeros((1, height, width, 3)), train=False
  )
  variables = jax.tree.map(lambda x: np.abs(x) * 0.3 + x, variables)

  def function(images):
    with target.traced_for(target.PORTABLE):
      logits = model.apply(variables, images / 127.5 - 1.0, train=False)
    return jax.nn.sigmoid(logits), logits

  return function


def random_images(number, height, width):
  shape = (number, height, width, 3)
  return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def slow(*arguments):
  return pytest.param(*arguments, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  'name, options',
  [
    ('tiny', {'features': (4, 8)}),
    ('resnet', {'features': (8, 16), 'num_blocks': (1, 1)}),
    ('poster_cnn', {'features': (4, 8), 'dense_features': (16,)}),
    slow('efficientnet_lite', {'stage_features': True}),
    slow('efficientnet_lite', {'feature_norm': True}),
    ('vit', {}),
    slow('vit', {'pool': 'mean', 'gelu': 'tanh', 'pre_norm': True}),
    slow('vit', {'pool': 'attention', 'gelu': 'quick', 'layer_scale': 0.1}),
    slow('convnext', {'feature_norm': True, 'layer_scale': 0.1}),
    slow('convnext', {'version': 2}),
  ],
)
def test_networks_compute_the_same(name, options, short_networks):
  height, width = {'vit': (40, 24), 'convnext': (37, 32)}.get(name, (33, 24))
  if name == 'vit':
    options = {'patch': 8, **options}
  model = registry.create_model(name, num_genres=5, options=options)
  function = prediction_function(model, height=height, width=width)
  converted = convert(function, (height, width, 3))
  for number in (1, 3):
    images = random_images(number, height, width)
    assert_equal_outputs(function, converted, images, rtol=1e-4, atol=1e-5)


def test_images_are_transposed_once(short_efficientnet):
  model = registry.create_model('efficientnet_lite', num_genres=5)
  function = prediction_function(model, height=32, width=24)
  converted = convert(function, (32, 24, 3))
  operators = [node.op_type for node in converted.graph.node]
  assert operators.count('Transpose') == 1
  assert not {'Expand', 'Einsum', 'Min', 'Max'} & set(operators)
  # BatchNorm's variance is a constant.
  assert 'Sqrt' not in operators


class _ManyPrimitives(nn.Module):
  """Layers and operations of common networks."""

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.gelu(nn.GroupNorm(num_groups=2)(nn.Conv(8, (3, 3), strides=2)(x)))
    y = nn.silu(nn.Conv(8, (5, 5), feature_group_count=4, padding='SAME')(x))
    y = nn.avg_pool(y, (3, 3), strides=(2, 2), padding='SAME')
    z = nn.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')
    x = jnp.concatenate([x[:, ::2, ::2], y, z], -1)
    x = jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0)))
    gate = nn.sigmoid(nn.Dense(24)(nn.relu(nn.Dense(4)(x.mean((1, 2))))))
    x = nn.LayerNorm()(x * gate[:, None, None, :])
    x = x.reshape(x.shape[0], -1, 24)
    x = x + nn.MultiHeadDotProductAttention(2, deterministic=True)(x, x)
    x = nn.softplus(x) + nn.hard_swish(x) + nn.elu(x) + nn.leaky_relu(x)
    x = jnp.where(x > 0.3, x, jnp.tanh(x)) + jnp.clip(x, -0.5, 0.5)
    x = x + jnp.maximum(x[:, ::-1], x * x[:, :1])
    x = jnp.concatenate([x.mean(1), x.max(1), x[:, 0], x.std(1)], -1)
    return nn.Dense(5, name='head')(x)


def test_many_primitives_compute_the_same():
  function = prediction_function(_ManyPrimitives(), height=32, width=40)
  converted = convert(function, (32, 40, 3))
  images = random_images(3, 32, 40)
  assert_equal_outputs(function, converted, images, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
  'function, message',
  [
    (lambda x: jnp.sort(x), "contains 'sort'"),
    (lambda x: x.astype(jnp.bfloat16), 'the type bfloat16'),
    (lambda x: x[1:], 'indices that are not constant'),
    (lambda x: x[::-1], "contains 'dim_as_value'"),
    (lambda x: lax.rev(x, (0,)), 'a reversal of the batch'),
  ],
)
def test_unsupported_primitives_are_named(function, message):
  with pytest.raises(errors.InputError, match=f'{message}.*stablehlo'):
    convert(lambda x: (function(x), x), (4,), jnp.float32)


def test_rows_are_gathered_at_indices_of_an_input():
  random = np.random.default_rng(0)
  table = random.normal(size=(7, 5)).astype(np.float32)
  ids = random.integers(-3, 12, (4, 6)).astype(np.int32)  # Some out of range.
  weights = random.normal(size=(4, 6)).astype(np.float32)
  weights[1] = 0

  def function(ids, weights):
    rows = jnp.take(table, ids, axis=0, mode='clip')
    bags = jnp.einsum('bk,bkg->bg', weights, rows)
    return jnp.where((weights != 0).any(axis=-1)[:, None], bags, -1.0)

  [batch] = export.symbolic_shape('batch')
  model = converter.convert(
    lambda *arrays: [function(*arrays)],
    {
      'ids': jax.ShapeDtypeStruct((batch, 6), jnp.int32),
      'weights': jax.ShapeDtypeStruct((batch, 6), jnp.float32),
    },
    output_names=('bags',),
    metadata={},
  )
  session = onnxruntime.InferenceSession(model.SerializeToString())
  [bags] = session.run(None, {'ids': ids, 'weights': weights})
  rows = table[np.clip(ids, 0, 6)]
  expected = (weights[:, :, None] * rows).sum(axis=1)
  expected[1] = -1
  np.testing.assert_allclose(bags, expected, atol=1e-5)
