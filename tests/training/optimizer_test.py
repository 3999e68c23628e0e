"""Tests of the schedule and of the optax chain."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from genre_flax.models import params as params_lib
from genre_flax.models import registry
from genre_flax.runtime import errors
from genre_flax.training import optimizer
from tests.support import helpers

HERE = __name__


def make_config(**changes):
  config = default.get_config().optimizer
  config.update(changes)
  return config


@pytest.mark.parametrize(
  'schedule, middle, end',
  [('constant', 1.0, 1.0), ('linear', 0.55, 0.1), ('cosine', 0.55, 0.1)],
)
def test_schedules_after_warmup(schedule, middle, end):
  config = make_config(
    learning_rate=1.0, schedule=schedule, final_learning_rate_factor=0.1
  )
  rate = optimizer.make_learning_rate_fn(
    config, num_train_steps=104, num_warmup_steps=4
  )
  got = [float(rate(jnp.asarray(step))) for step in (0, 1, 3, 4, 54, 104)]
  np.testing.assert_allclose(got, [0.25, 0.5, 1.0, 1.0, middle, end], rtol=1e-6)


def power(*, learning_rate, num_train_steps, num_warmup_steps, exponent=1):
  del num_warmup_steps
  return lambda step: learning_rate * (1 - step / num_train_steps) ** exponent


def test_custom_schedule_with_options():
  config = make_config(schedule=f'{HERE}:power', learning_rate=0.5)
  config.schedule_options = {'exponent': 2}
  rate = optimizer.make_learning_rate_fn(
    config, num_train_steps=4, num_warmup_steps=2
  )
  got = [float(rate(jnp.asarray(step))) for step in (0, 1, 2)]
  np.testing.assert_allclose(got, [0.5, 0.5 * 9 / 16, 0.5 / 4], rtol=1e-6)


@pytest.mark.parametrize(
  'peak, exponent, message',
  [(-1.0, 1, 'is -1.0 after 0'), (1.0, np.nan, 'is nan after 3')],
)
def test_custom_schedule_with_invalid_rates_is_refused(peak, exponent, message):
  config = make_config(schedule=f'{HERE}:power', learning_rate=peak)
  config.schedule_options = {'exponent': exponent}
  with pytest.raises(errors.InputError, match=message):
    optimizer.make_learning_rate_fn(
      config, num_train_steps=4, num_warmup_steps=2
    )


def one_update(config, grads, params, *, rate=0.1, layer_order=None, fixed=()):
  chain = optimizer.make_optimizer(
    config,
    learning_rate_fn=lambda _: rate,
    layer_order=layer_order,
    param_shapes={**params, **dict.fromkeys(fixed, jnp.zeros(1))},
  )
  updates, _ = chain.update(grads, chain.init(params), params)
  return updates


def test_first_adam_update_is_the_sign_times_the_learning_rate():
  config = make_config(weight_decay=0.0)
  params = {'a/kernel': jnp.array([1.0, 2.0])}
  grads = {'a/kernel': jnp.array([3.0, -0.5])}
  updates = one_update(config, grads, params)
  np.testing.assert_allclose(updates['a/kernel'], [-0.1, 0.1], rtol=1e-5)


def test_weight_decay_is_decoupled_and_applies_to_kernels():
  config = make_config(weight_decay=0.5)
  names = ('a/kernel', 'a/bias', 'norm/scale')
  params = {name: jnp.array([2.0]) for name in names}
  updates = one_update(config, jax.tree.map(jnp.zeros_like, params), params)
  assert float(updates['a/kernel'][0]) == pytest.approx(-0.1 * 0.5 * 2.0)
  assert float(updates['a/bias'][0]) == 0
  assert float(updates['norm/scale'][0]) == 0


def test_backbone_factor():
  config = make_config(
    name='sgd', beta1=0.0, weight_decay=0.5, backbone_factor=0.1
  )
  params = {'head/kernel': jnp.array([2.0]), 'stem/kernel': jnp.array([2.0])}
  grads = jax.tree.map(jnp.ones_like, params)
  updates = one_update(config, grads, params, rate=1.0)
  assert float(updates['head/kernel'][0]) == -2.0
  assert float(updates['stem/kernel'][0]) == pytest.approx(-0.2)


def test_layer_decay():
  config = make_config(
    name='sgd',
    beta1=0.0,
    weight_decay=0.0,
    layer_decay=0.5,
    backbone_factor=0.1,
  )
  # Frozen layers count too.
  paths = ('stem/kernel', 'block_9/scale', 'head/kernel')
  params = {path: jnp.array([2.0]) for path in paths}
  updates = one_update(
    config,
    jax.tree.map(jnp.ones_like, params),
    params,
    rate=1.0,
    layer_order=('stem', r'block_(\d+)', 'head'),
    fixed=('block_10/kernel',),
  )
  got = [float(updates[path][0]) for path in paths]
  assert got == pytest.approx([-0.0125, -0.025, -1.0])


def test_layer_decay_without_layer_order_is_refused():
  config = make_config(layer_decay=0.5)
  params = {'stem/kernel': jnp.array([2.0]), 'head/kernel': jnp.array([2.0])}
  with pytest.raises(
    errors.InputError, match='layer_decay=0.5 needs the order'
  ):
    one_update(config, params, params)
  with pytest.raises(errors.InputError, match='stem/kernel matches no .*head'):
    one_update(config, params, params, layer_order=('head',))


@pytest.mark.parametrize('name', helpers.IMAGE_NETWORKS)
def test_layer_order_of_every_network(name):
  options = default.get_config().model[name]
  if name == 'efficientnet_lite':
    options.feature_norm = True
  model = registry.create_model(name, num_genres=3, options=options)
  modules = []

  def note(call, args, kwargs, context):
    modules.append('/'.join(context.module.path))
    return call(*args, **kwargs)

  def init(images):
    with nn.intercept_methods(note):
      return model.init(jax.random.key(0), images, train=False)

  images = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
  paths = params_lib.flatten(jax.eval_shape(init, images)['params'], sep='/')
  below = optimizer.layers_below_head(paths, model.layer_order)
  in_order_of_use = sorted(
    paths, key=lambda path: modules.index(path.rpartition('/')[0])
  )
  used = [below[path] for path in in_order_of_use]
  assert used == sorted(used, reverse=True)
  assert used[-1] == 0 and used[0] == len(set(used)) - 1
  assert len(set(used)) >= 4


def test_clipping_bounds_the_global_norm():
  config = make_config(name='sgd', beta1=0.0, weight_decay=0.0, clip_norm=1.0)
  grads = {'a/kernel': jnp.array([3.0]), 'b/kernel': jnp.array([4.0])}
  updates = one_update(config, grads, grads, rate=1.0)
  assert float(optax.tree.norm(updates)) == pytest.approx(1.0, rel=1e-5)
  assert float(updates['a/kernel'][0]) == pytest.approx(-0.6, rel=1e-5)


def test_nesterov_momentum_against_hand_computed_values():
  config = make_config(name='sgd', beta1=0.5, weight_decay=0.0)
  params = {'a/kernel': jnp.array([0.0])}
  grads = {'a/kernel': jnp.array([1.0])}
  chain = optimizer.make_optimizer(
    config, learning_rate_fn=lambda _: 1.0, param_shapes=params
  )
  state = chain.init(params)
  first, state = chain.update(grads, state, params)
  second, _ = chain.update(grads, state, params)
  # Trace 1, then 1.5; Nesterov adds half a trace: 1.5, then 1.75.
  assert float(first['a/kernel'][0]) == -1.5
  assert float(second['a/kernel'][0]) == -1.75


def rising(step):
  return 0.05 * step


@pytest.mark.parametrize(
  'name, expected',
  [
    ('adafactor', optax.adafactor(rising)),
    ('lion', optax.lion(rising)),
    ('sgd', optax.sgd(rising)),
    ('scale_by_lion', optax.lion(rising, weight_decay=0.0)),
  ],
)
def test_optimizers_of_optax_minimize_a_quadratic(name, expected):
  config = make_config(name=f'optax:{name}', weight_decay=0.0)
  params = {'a/kernel': jnp.array([[1.0, -2.0], [0.5, 3.0]])}
  made = optimizer.make_optimizer(
    config, learning_rate_fn=rising, param_shapes=params
  )
  ends = []
  for chain in (made, expected):
    values, state = params, chain.init(params)
    for _ in range(10):
      # The gradient of half the sum of squares.
      updates, state = chain.update(values, state, values)
      values = optax.apply_updates(values, updates)
    ends.append(values)
  got, own = (end['a/kernel'] for end in ends)
  np.testing.assert_allclose(got, own, rtol=1e-6)
  assert float((got**2).sum()) < float((params['a/kernel'] ** 2).sum())


def test_clipping_and_backbone_factor_of_a_full_optimizer():
  config = make_config(
    name='optax:sgd', weight_decay=0.0, clip_norm=1.0, backbone_factor=0.5
  )
  grads = {'head/kernel': jnp.array([3.0]), 'stem/kernel': jnp.array([4.0])}
  updates = one_update(config, grads, grads, rate=1.0)
  assert float(updates['head/kernel'][0]) == pytest.approx(-0.6, rel=1e-5)
  assert float(updates['stem/kernel'][0]) == pytest.approx(-0.4, rel=1e-5)


def with_own_rate(factor=-1.0):
  return optax.scale(factor)


def without_sign(learning_rate):
  return optax.scale_by_schedule(learning_rate)


@pytest.mark.parametrize(
  'name, changes, message',
  [
    ('optax:lion', {}, 'config.optimizer.weight_decay to 0.0'),
    ('optax:lion', {'options': {'learning_rate': 1.0}}, 'and not an option'),
    (f'{HERE}:with_own_rate', {}, r'is -\d.*expected'),
    (f'{HERE}:with_own_rate', {'options': {'factor': np.nan}}, 'is nan'),
    (f'{HERE}:without_sign', {'weight_decay': 0.0}, r'is \d.*expected'),
    ('optax:set_to_zero', {}, 'is 0.0'),
    ('optax:lbfgs', {'weight_decay': 0.0}, "an update: .*'value'"),
  ],
)
def test_custom_optimizer_that_breaks_its_contract_is_refused(
  name, changes, message
):
  config = make_config(name=name, weight_decay=0.1)
  with config.unlocked():
    config.update(changes)
  params = {'head/kernel': jnp.ones((2, 2))}
  with pytest.raises(errors.InputError, match=message):
    one_update(config, params, params)
