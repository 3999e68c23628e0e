import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from genre_flax.models import efficientnet_lite
from genre_flax.models import registry
from genre_flax.runtime import target
from genre_flax.training import train_state
from tests.support import helpers

KEY = jax.random.key(1)


def small_config(name, dtype='float32'):
  """The defaults with fewer channels, which compile faster."""
  config = default.get_config().model
  config.name, config.dtype = name, dtype
  config.poster_cnn.features = (4, 4, 4, 4)
  config.resnet.features = (8, 16)
  config.resnet.num_blocks = (1, 2)
  config.vit.dropout_rate = config.convnext.dropout_rate = 0.2
  return config


def init_shapes(name, height, width, num_genres=25):
  config = default.get_config().model
  config.name = name
  model = registry.create_from_config(config, num_genres=num_genres)
  return model, jax.eval_shape(
    lambda: model.init(
      jax.random.key(0), jnp.zeros((1, height, width, 3)), train=False
    )
  )


@pytest.mark.parametrize(
  'height, width, expected',
  [(250, 250, 1_169_017), (400, 400, 3_790_457)],
)
def test_poster_cnn_has_the_originals_number_of_parameters(
  height, width, expected
):
  _, variables = init_shapes('poster_cnn', height, width)
  assert train_state.count_parameters(variables['params']) == expected


def test_poster_cnn_layers_are_the_originals():
  _, variables = init_shapes('poster_cnn', 250, 250)
  shapes = [
    leaf.shape
    for name, layer in sorted(variables['params'].items())
    for leaf in [layer['kernel']]
    if name != 'head'
  ]
  assert shapes == [
    (5, 5, 3, 16),
    (5, 5, 16, 32),
    (5, 5, 32, 64),
    (5, 5, 64, 64),
    (11 * 11 * 64, 128),
    (128, 64),
  ]
  assert variables['params']['head']['kernel'].shape == (64, 25)


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize(
  ('name', 'height', 'width', 'words'),
  [
    ('poster_cnn', 60, 250, '60 x 250 pixels are too small'),
    ('convnext', 96, 28, '96 x 28 pixels are too small; at least 32 x 32'),
    ('vit', 60, 40, 'not divide into patches of 16; .* are 64 x 32'),
  ],
)
def test_images_of_a_size_that_a_network_cannot_take(
  name, height, width, words
):
  with pytest.raises(ValueError, match=words):
    init_shapes(name, height, width)


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize('name', registry.MODELS)
@pytest.mark.parametrize('dtype', registry.DTYPES)
def test_every_model_gives_float32_logits_of_float32_parameters(name, dtype):
  config = small_config(name, dtype)
  model = registry.create_from_config(config, num_genres=5)
  images = jax.ShapeDtypeStruct((2, 96, 80, 3), jnp.float32)
  logits, variables = jax.eval_shape(
    lambda images: model.init_with_output(KEY, images, train=False), images
  )
  assert logits.shape == (2, 5)
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype('float32')
  }
  assert 'head' in variables['params']


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize('name', ['vit', 'convnext'])
def test_a_network_that_is_rematerialized_has_the_same_gradients(name):
  images = jax.random.normal(jax.random.key(0), (2, 64, 32, 3))

  def make_model(rematerialize):
    config = small_config(name)
    config[name].rematerialize = rematerialize
    return registry.create_from_config(config, num_genres=5)

  def run(rematerialize):
    def loss(params):
      logits = make_model(rematerialize).apply(
        {'params': params},
        images,
        train=True,
        rngs={'dropout': jax.random.key(1)},
      )
      return (logits**2).sum()

    traced = jax.jit(jax.grad(loss)).trace(params)
    return traced.lower().compile()(params), 'remat' in str(traced.jaxpr)

  with target.traced_for('cpu'):
    params = jax.jit(lambda: make_model(False).init(KEY, images, train=False))()
    params = params['params']
    (kept, is_kept), (again, is_again) = run(False), run(True)
  assert (is_kept, is_again) == (False, True)
  helpers.assert_trees_close(again, kept, atol=1e-4)


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize('name', registry.MODELS)
def test_every_model_drops_out_in_training_only(name):
  model = registry.create_from_config(small_config(name), num_genres=5)
  images = jax.random.normal(jax.random.key(0), (4, 96, 80, 3))
  variables = jax.jit(lambda: model.init(KEY, images, train=False))()

  @jax.jit
  def train_logits(seed):
    return model.apply(
      variables,
      images,
      train=True,
      rngs={'dropout': jax.random.key(seed)},
      mutable=['batch_stats'],
    )[0]

  np.testing.assert_array_equal(train_logits(0), train_logits(0))
  assert not np.array_equal(train_logits(0), train_logits(1))


def test_bfloat16_computes_close_to_float32():
  images = jax.random.normal(jax.random.key(0), (2, 64, 64, 3))
  logits = {}
  for dtype in registry.DTYPES:
    model = registry.create_from_config(
      small_config('resnet', dtype), num_genres=5
    )
    variables = jax.jit(lambda m=model: m.init(KEY, images, train=False))()
    logits[dtype] = jax.jit(lambda v, m=model: m.apply(v, images, train=False))(
      variables
    )
  assert not np.array_equal(logits['float32'], logits['bfloat16'])
  np.testing.assert_allclose(logits['bfloat16'], logits['float32'], atol=0.05)


def test_the_head_sees_the_style_after_every_stage(short_networks):
  config = small_config('efficientnet_lite')
  config.efficientnet_lite.stage_features = True
  model = registry.create_from_config(config, num_genres=5)
  images = jax.random.normal(KEY, (2, 40, 32, 3))
  features, variables = jax.jit(
    functools.partial(model.init_with_output, train=False, method='embed')
  )(KEY, images)
  plain = config.efficientnet_lite.copy_and_resolve_references()
  plain.stage_features = False
  config.efficientnet_lite = plain
  without = registry.create_from_config(config, num_genres=5)
  expected = jax.jit(
    functools.partial(without.apply, train=False, method='embed')
  )(variables, images)
  channels = [stage.features for stage in efficientnet_lite.make_stages(0)]
  assert features.shape == (2, 1280 + 2 * sum(channels))
  np.testing.assert_allclose(features[:, :1280], expected, atol=1e-5)
  first = 1280 + channels[0]
  assert (features[:, first : first + channels[0]] > 0).all()  # Deviations.


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize(
  'name, options, expected',
  [
    ('tiny', {}, False),
    ('poster_cnn', {}, False),
    ('vit', {}, False),
    ('convnext', {}, False),
    ('resnet', {}, True),
    ('efficientnet_lite', {'batch_norm': 'frozen'}, False),
    ('efficientnet_lite', {'batch_norm': 'synchronized'}, True),
    ('efficientnet_lite', {'feature_norm': True}, True),
  ],
)
def test_networks_say_whether_examples_depend_on_each_other(
  name, options, expected
):
  config = small_config(name)
  config[name].update(options)
  for key in config[name]:
    if key.endswith(('dropout_rate', 'depth_rate')):
      config[name][key] = 0.0
  model = registry.create_from_config(config, num_genres=3)
  images = jax.random.normal(KEY, (4, 96, 96, 3))
  variables = jax.jit(functools.partial(model.init, train=False))(KEY, images)

  @jax.jit
  def first_logits(images):
    logits, _ = model.apply(
      variables, images, train=True, mutable=['batch_stats']
    )
    return logits[0]

  changed = first_logits(images.at[1:].multiply(-2.0))
  same = np.array_equal(first_logits(images), changed)
  assert model.mixes_examples == expected == (not same)
