import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import registry
from genre_flax.ops import ops
from genre_flax.runtime import target
from genre_flax.training import train_state
from tests.support import helpers
from tests.support import numerics

KEY = jax.random.key(1)


def create_model(name, *, dtype='float32', reference_ops=False, **options):
  """A network with few channels, which compiles fast."""
  config = default.get_config().model
  config.name, config.dtype = name, dtype
  config.reference_ops = reference_ops
  config.poster_cnn.features = (4, 4, 4, 4)
  config.resnet.features = (8, 16)
  config.resnet.num_blocks = (1, 2)
  config.vit.dropout_rate = config.convnext.dropout_rate = 0.2
  config[name].update(options)
  return registry.create_from_config(config, num_genres=5)


def init(model, images):
  return jax.jit(functools.partial(model.init, train=False))(KEY, images)


@pytest.mark.parametrize(
  'height, width, expected', [(250, 250, 1_169_017), (400, 400, 3_790_457)]
)
def test_poster_cnn_is_the_network_of_the_original(height, width, expected):
  model = registry.create_model('poster_cnn', num_genres=25)
  images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
  shapes = jax.eval_shape(
    functools.partial(model.init, train=False), KEY, images
  )
  params = shapes['params']
  assert train_state.count_parameters(params) == expected


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize(
  'name, height, width, message',
  [
    ('poster_cnn', 60, 250, '60 x 250 pixels are too small'),
    ('convnext', 96, 28, '96 x 28 pixels are too small; at least 32 x 32'),
    ('vit', 60, 40, 'not divide into patches of 16; .* are 64 x 32'),
  ],
)
def test_unsuitable_image_sizes_are_refused(name, height, width, message):
  model = registry.create_model(name, num_genres=5)
  images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(functools.partial(model.init, train=False), KEY, images)


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize('name', helpers.IMAGE_NETWORKS)
@pytest.mark.parametrize('dtype', registry.DTYPES)
def test_logits_and_parameters_are_float32(name, dtype):
  images = jax.ShapeDtypeStruct((2, 96, 80, 3), jnp.float32)
  logits, variables = jax.eval_shape(
    functools.partial(
      create_model(name, dtype=dtype).init_with_output, train=False
    ),
    KEY,
    images,
  )
  assert logits.shape == (2, 5)
  assert {leaf.dtype for leaf in jax.tree.leaves((logits, variables))} == {
    jnp.dtype('float32')
  }
  assert 'head' in variables['params']


@pytest.mark.slow
@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize('name', ['vit', 'convnext'])
def test_rematerialization_keeps_the_gradients(name):
  images = numerics.random_array(0, (2, 64, 32, 3))

  def run(rematerialize):
    model = create_model(name, rematerialize=rematerialize)

    def loss(params):
      logits = model.apply(
        {'params': params},
        images,
        train=True,
        rngs={'dropout': jax.random.key(1)},
      )
      return (logits**2).sum()

    traced = jax.jit(jax.grad(loss)).trace(params)
    return traced.lower().compile()(params), 'remat' in str(traced.jaxpr)

  with target.traced_for(target.PORTABLE):  # Compiles faster.
    params = init(create_model(name), images)['params']
    (expected, has_remat), (got, got_remat) = run(False), run(True)
  assert (has_remat, got_remat) == (False, True)
  helpers.assert_trees_close(got, expected, atol=1e-4)


def test_bfloat16_is_close_to_float32():
  images = numerics.random_array(0, (2, 64, 64, 3))
  logits = {}
  for dtype in registry.DTYPES:
    model = create_model('resnet', dtype=dtype)
    logits[dtype] = jax.jit(functools.partial(model.apply, train=False))(
      init(model, images), images
    )
  assert not np.array_equal(logits['float32'], logits['bfloat16'])
  np.testing.assert_allclose(logits['bfloat16'], logits['float32'], atol=0.05)


@pytest.mark.usefixtures('short_networks')
def test_stage_features_are_appended_to_the_embeddings():
  images = numerics.random_array(0, (2, 40, 32, 3))

  def embed(variables, **options):
    model = create_model('efficientnet_lite', **options)
    return jax.jit(functools.partial(model.apply, train=False, method='embed'))(
      variables, images
    )

  variables = init(create_model('efficientnet_lite'), images)
  embeddings = embed(variables, stage_features=True)
  channels = [stage.features for stage in efficientnet_lite.make_stages(0)]
  assert embeddings.shape == (2, 1280 + 2 * sum(channels))
  np.testing.assert_allclose(embeddings[:, :1280], embed(variables), atol=1e-5)
  first = 1280 + channels[0]
  assert (embeddings[:, first : first + channels[0]] > 0).all()  # Deviations.


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
def test_mixes_examples(name, options, expected):
  keys = default.get_config().model[name]
  rates = {key: 0.0 for key in keys if key.endswith(('out_rate', 'depth_rate'))}
  model = create_model(name, **rates, **options)
  side = 96 if name == 'poster_cnn' else 32
  images = numerics.random_array(0, (4, side, side, 3))

  @jax.jit
  def first_logits(images):
    logits, _ = model.apply(
      variables, images, train=True, mutable=['batch_stats']
    )
    return logits[0]

  with target.traced_for(target.PORTABLE):  # Compiles faster.
    variables = init(model, images)
    changed = first_logits(images.at[1:].multiply(-2.0))
    is_same = np.array_equal(first_logits(images), changed)
  assert model.mixes_examples == expected == (not is_same)


@pytest.mark.usefixtures('short_networks')
@pytest.mark.parametrize(
  'name, size, options',
  [
    ('tiny', 16, {'features': (4, 4)}),
    ('poster_cnn', 24, {'features': (4, 4), 'dense_features': (8,)}),
    pytest.param('resnet', 16, {'num_blocks': (1, 1)}, marks=pytest.mark.slow),
    pytest.param('vit', 32, {}, marks=pytest.mark.slow),
    pytest.param('convnext', 32, {}, marks=pytest.mark.slow),
    pytest.param('efficientnet_lite', 32, {}, marks=pytest.mark.slow),
  ],
)
def test_second_derivatives_with_reference_ops(
  name, size, options, monkeypatch
):
  # EfficientNet has so many units that some pass a kink in any difference.
  monkeypatch.setitem(ops.ACTIVATIONS, 'relu6', jax.nn.softplus)
  model = create_model(name, reference_ops=True, **options)
  images = numerics.random_array(0, (2, size, size, 3))
  variables = helpers.random_variables(model, (size, size), spread=0.1)
  params = variables.pop('params')

  def loss(params):
    logits, _ = model.apply(
      {'params': params, **variables},
      images,
      train=True,
      rngs={'dropout': KEY},
      mutable=['batch_stats'],
    )
    return jax.nn.softplus(logits).mean()

  @jax.jit
  def gradient_and_derivative(distance):
    """At a point on a line through the parameters, and along the line."""
    at = optax.tree.add_scale(params, distance, params)
    return jax.jvp(jax.grad(loss), (at,), (params,))

  # So near that no pixel passes the kink of a ReLU or a maximum.
  distance = 1e-4
  ahead, behind = (gradient_and_derivative(d)[0] for d in (distance, -distance))
  expected = optax.tree.scale(0.5 / distance, optax.tree.sub(ahead, behind))
  _, derivative = gradient_and_derivative(0.0)
  error = optax.tree.norm(optax.tree.sub(derivative, expected))
  assert 0 < error < 0.02 * optax.tree.norm(expected)


def test_response_norm_of_a_zero_channel_has_a_gradient():
  x = numerics.random_array(0, (2, 3, 4, 5)).at[..., 1].set(0)
  params = {'scale': jnp.ones(5), 'bias': jnp.zeros(5)}

  def total(x):
    return jnp.sin(convnext.ResponseNorm().apply({'params': params}, x)).sum()

  assert np.isfinite(jax.grad(total)(x)).all()
