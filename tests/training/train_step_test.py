"""Tests of genre_flax/training/train_step.py."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from genre_flax.models import registry
from genre_flax.runtime import parallel
from genre_flax.runtime import target
from genre_flax.training import objectives
from genre_flax.training import optimizer as optimizer_lib
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state
from genre_flax.training import train_step as train_step_lib
from tests.support import helpers

NUM_GENRES = 5
SHAPE = (24, 16)


def make_config(**changes):
  config = helpers.tiny_config(
    'unused',
    **{
      'model.tiny.features': (4, 8),
      'model.tiny.dropout_rate': 0.0,
      'model.resnet.dropout_rate': 0.0,
      'model.resnet.features': (4, 8),
      'model.resnet.num_blocks': (1, 1),
      'optimizer.schedule': 'constant',
      'image_height': SHAPE[0],
      'image_width': SHAPE[1],
      'augment.crop_scale': 1.0,
      'augment.translation': 0.0,
      'augment.brightness': 0.0,
      'augment.contrast': 0.0,
    },
  )
  config.update_from_flattened_dict(changes)
  return config


# Adam magnifies rounding errors, since it divides by the size of the gradient.
SGD = {'optimizer.name': 'sgd', 'optimizer.learning_rate': 0.1}


def make_batch(size=16, seed=0):
  rng = np.random.default_rng(seed)
  return {
    'image': rng.integers(0, 256, (size, *SHAPE, 3), np.uint8),
    'labels': (rng.random((size, NUM_GENRES)) < 0.3).astype(np.float32),
    'mask': np.ones(size, np.float32),
    'index': np.arange(size, dtype=np.int32),
  }


def make_step(config, *, num_micro_batches=1):
  rate_fn = optimizer_lib.make_learning_rate_fn(
    config.optimizer, num_train_steps=100, num_warmup_steps=0
  )
  optimizer = optimizer_lib.make_optimizer(
    config.optimizer, learning_rate_fn=rate_fn
  )
  model = registry.create_from_config(
    config.model, num_genres=NUM_GENRES, axis_name=parallel.AXIS_NAME
  )
  variables = train_state.initialize_variables(model, jax.random.key(0), SHAPE)
  state = train_state.create_train_state(config, variables, optimizer)
  objective = objectives.create(
    config, label_prior=[0.3] * NUM_GENRES, num_examples=100
  )
  step = train_step_lib.make_train_step(
    model,
    optimizer,
    rate_fn,
    objective=objective,
    num_micro_batches=num_micro_batches,
    config=config,
  )
  return model, step, jax.device_get(state)


def run(step, state, batches, *, num_devices, platform='cpu'):
  """Runs a step on the first devices; returns the state and metrics."""

  def step_for_platform(state, batch):
    with target.traced_for(platform):
      return step(state, batch)

  parallel_step = parallel.parallelize(
    step_for_platform, devices=jax.devices()[:num_devices]
  )
  values = []
  for batch in batches:
    shards = {
      name: array.reshape(num_devices, -1, *array.shape[1:])
      for name, array in batch.items()
    }
    state, value = parallel_step(state, shards)
    values.append(jax.device_get(value))
  return jax.device_get(state), values


def test_step_against_hand_computed_gradient():
  plain = {'optimizer.beta1': 0.0, 'optimizer.weight_decay': 0.0}
  model, step, state = make_step(make_config(**SGD, **plain))
  batch = make_batch()

  def mean_loss(params):
    images = (jnp.asarray(batch['image']).astype(jnp.float32) - 127.5) / 127.5
    logits = model.apply({'params': params}, images, train=False)
    losses = optax.sigmoid_binary_cross_entropy(logits, batch['labels'])
    return losses.sum() / len(images)

  loss, grads = jax.jit(jax.value_and_grad(mean_loss))(state.params)
  expected = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads)
  new_state, (values,) = run(step, state, [batch], num_devices=8)
  helpers.assert_trees_close(new_state.params, expected, atol=1e-5)
  assert values['loss'] / values['count'] == pytest.approx(
    float(loss), rel=1e-5
  )
  assert values['count'] == 16
  assert values['learning_rate'] == pytest.approx(0.1)
  norm = float(optax.tree.norm(grads))
  assert values['gradient_norm'] == pytest.approx(norm, rel=1e-4)
  assert new_state.step == 1


@pytest.mark.parametrize(
  'changes',
  [
    {'augment.crop_scale': 0.7, 'augment.brightness': 0.2},
    {'model.name': 'resnet', 'augment.crop_scale': 0.7},
    {'augment.mixup_alpha': 0.4},
  ],
)
def test_one_and_eight_devices_agree(changes):
  # Sums over devices have another order: three steps agree to 1e-4.
  config = make_config(ema_decay=0.9, **SGD, **changes)
  _, step, state = make_step(config)
  batches = [make_batch(seed=seed) for seed in range(3)]
  one, one_values = run(step, state, batches, num_devices=1)
  eight, eight_values = run(step, state, batches, num_devices=8)
  helpers.assert_trees_close(one, eight, atol=1e-4)
  for a, b in zip(one_values, eight_values, strict=True):
    assert a['loss'] == pytest.approx(b['loss'], rel=1e-4)


@pytest.mark.parametrize('name', ['tiny', 'resnet'])
def test_state_is_equal_on_all_devices(name):
  # `out_axes=None` returns the copy of one device; here all are returned.
  config = make_config(**{'model.name': name, 'ema_decay': 0.9})
  config.model.tiny.dropout_rate = config.model.resnet.dropout_rate = 0.5
  config.augment.brightness = 0.3
  _, step, state = make_step(config)
  stacked_step = jax.pmap(
    step, axis_name=parallel.AXIS_NAME, in_axes=(None, 0), out_axes=0
  )

  def shards(batch):
    return {n: a.reshape(8, -1, *a.shape[1:]) for n, a in batch.items()}

  batch = make_batch()
  before, _ = jax.device_get(stacked_step(state, shards(batch)))
  batch['image'][:2] = 255 - batch['image'][:2]  # Device 0's slice.
  batch['labels'][:2] = 1 - batch['labels'][:2]
  new_state, values = jax.device_get(stacked_step(state, shards(batch)))
  for leaf in jax.tree.leaves((new_state, values)):
    for device in range(1, 8):
      np.testing.assert_array_equal(leaf[device], leaf[0])
  head = [after.params['head']['kernel'][0] for after in (before, new_state)]
  assert not np.array_equal(*head)


@pytest.mark.parametrize('size, num_micro_batches', [(16, 4), (24, 6)])
def test_micro_batches_equal_the_full_batch(size, num_micro_batches):
  config = make_config(**SGD)
  _, whole_step, state = make_step(config)
  _, parts_step, _ = make_step(config, num_micro_batches=num_micro_batches)
  batch = [make_batch(size)]
  whole, (whole_values,) = run(whole_step, state, batch, num_devices=1)
  parts, (parts_values,) = run(parts_step, state, batch, num_devices=1)
  helpers.assert_trees_close(parts, whole, atol=1e-5)
  assert parts_values['loss'] == pytest.approx(whole_values['loss'], rel=1e-5)
  assert parts_values['count'] == size


@pytest.mark.parametrize(
  'changes, platform, expected',
  [
    ({}, 'cpu', 4),
    ({'batch_size': 48}, 'cpu', 2),  # 6 per device.
    ({}, 'tpu', 8),
    ({'model.name': 'resnet'}, 'cpu', 8),
    ({'micro_batch_size': 2}, 'cpu', 2),
    ({'micro_batch_size': 2}, 'tpu', 2),
    ({'loss.name': f'{__name__}:negative_soft_f1'}, 'cpu', 8),
  ],
)
def test_micro_batch_size_by_platform(changes, platform, expected):
  config = make_config(**{'batch_size': 64, **changes})
  setup = setup_lib.build(
    config,
    num_train_examples=100,
    label_prior=[0.3] * NUM_GENRES,
    num_devices=8,
    platform=platform,
  )
  assert setup.micro_batch_size == expected


def negative_soft_f1(logits, labels):
  """Macro soft-F1 of a batch, for each example: not a sum over examples."""
  p = jax.nn.sigmoid(logits)
  f1 = 2 * (p * labels).sum(axis=0) / (p + labels).sum(axis=0)
  return jnp.full(len(logits), 1 - f1.mean())


def test_loss_over_the_batch_is_the_same_on_any_number_of_devices():
  changes = {'loss.name': f'{__name__}:negative_soft_f1'}
  model, step, state = make_step(make_config(**SGD, **changes))
  batch = make_batch()
  one, (values,) = run(step, state, [batch], num_devices=1)
  eight, (eight_values,) = run(step, state, [batch], num_devices=8)
  helpers.assert_trees_close(eight, one, atol=1e-6)
  images = (jnp.asarray(batch['image']).astype(jnp.float32) - 127.5) / 127.5
  logits = model.apply({'params': state.params}, images, train=False)
  expected = 16 * float(negative_soft_f1(logits, batch['labels'])[0])
  for got in (values, eight_values):
    assert got['loss'] == pytest.approx(expected, rel=1e-5)


def test_dropout_differs_between_micro_batches():
  # With equal dropout, two equal micro-batches would have equal gradients.
  dropout = {'model.tiny.dropout_rate': 0.5}
  _, step, state = make_step(make_config(**dropout), num_micro_batches=2)
  _, once, _ = make_step(make_config(**dropout))
  batch = make_batch(8)
  twice = {name: np.concatenate([a, a]) for name, a in batch.items()}
  _, (parts,) = run(step, state, [twice], num_devices=1)
  _, (whole,) = run(once, state, [batch], num_devices=1)
  assert parts['loss'] / 2 != pytest.approx(whole['loss'], rel=1e-3)


def test_ema_against_hand_computed_values():
  config = make_config(ema_decay=0.15)
  _, step, state = make_step(config)
  batches = [make_batch(seed=seed) for seed in range(2)]
  first, _ = run(step, state, batches[:1], num_devices=1)
  second, _ = run(step, state, batches, num_devices=1)
  # Decays: min(0.15, 1 / 10), then min(0.15, 2 / 11).
  expected = jax.tree.map(
    lambda p0, p1, p2: 0.15 * (0.1 * p0 + 0.9 * p1) + 0.85 * p2,
    state.params,
    first.params,
    second.params,
  )
  helpers.assert_trees_close(second.ema_params, expected, atol=1e-6)


def test_padding_is_ignored():
  config = make_config(**{'optimizer.name': 'sgd'})
  _, step, state = make_step(config)
  batch = make_batch(8)
  padded = {
    name: np.concatenate([a, np.zeros_like(a)]) for name, a in batch.items()
  }
  alone, (alone_values,) = run(step, state, [batch], num_devices=4)
  # Devices 2 and 3 have padding only.
  with_padding, (values,) = run(step, state, [padded], num_devices=4)
  assert values['count'] == 8
  assert values['loss'] == pytest.approx(alone_values['loss'], rel=1e-5)
  helpers.assert_trees_close(with_padding.params, alone.params, atol=1e-5)


def test_step_compiles_once():
  _, step, state = make_step(make_config(ema_decay=0.9))
  traces = []

  def counted(state, batch):
    traces.append(1)
    return step(state, batch)

  parallel_step = parallel.parallelize(counted)
  state = parallel.replicate(state)
  for seed in range(3):
    batch = parallel.shard_batch(make_batch(seed=seed))
    state, _ = parallel_step(state, batch)
    if seed == 0:
      num_traces = len(traces)
  assert len(traces) == num_traces


def test_bfloat16_keeps_float32_state():
  _, step, state = make_step(make_config(**{'model.dtype': 'bfloat16'}))
  new_state, _ = run(step, state, [make_batch()], num_devices=8)
  assert {leaf.dtype.name for leaf in jax.tree.leaves(new_state)} == {
    'float32',
    'int32',
  }


def test_frozen_parameters_are_unchanged():
  config = make_config(trainable='head/.*', ema_decay=0.9)
  _, step, state = make_step(config)
  new_state, _ = run(step, state, [make_batch()], num_devices=2)
  for tree in ('params', 'ema_params'):
    before, after = getattr(state, tree), getattr(new_state, tree)
    for name in before:
      for leaf in before[name]:
        same = np.array_equal(before[name][leaf], after[name][leaf])
        assert same == (name != 'head'), (tree, name, leaf)
  # There is no optimizer state of frozen parameters.
  shapes = {np.shape(x) for x in jax.tree.leaves(new_state.opt_state)}
  assert shapes == {(), (16, NUM_GENRES), (NUM_GENRES,)}
