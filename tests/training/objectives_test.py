"""Tests of objectives, built in and custom."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

from genre_flax.inference import predictor as predictor_lib
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import objectives
from genre_flax.training import setup as setup_lib
from genre_flax.training import train
from tests.support import helpers

HERE = __name__
NUM_GENRES = 4


class Net(nn.Module):
  """Sows a loss and takes keys of a stream of its own."""

  num_genres: int
  dtype: object
  axis_name: object
  mixes_examples = False
  rng_streams = ('dropout', 'noise')

  @nn.compact
  def __call__(self, images, *, train):
    x = nn.relu(nn.Dense(4)(images.mean(axis=(1, 2))))
    if train:
      x += 0.01 * jax.random.normal(self.make_rng('noise'), x.shape)
    self.sow('losses', 'activity', 0.25)
    return nn.Dense(self.num_genres, name='head')(x)


class SoftF1(objectives.MultiLabel):
  """One minus macro soft-F1 of the batch, without saying that it mixes."""

  def loss(self, model, variables, batch, rngs):
    logits, _ = self.apply(model, variables, batch['inputs'], rngs)
    weights = batch['mask'][:, None]
    p, labels = nn.sigmoid(logits) * weights, batch['labels'] * weights
    f1 = 2 * (p * labels).sum(axis=0) / (p + labels).sum(axis=0).clip(1e-3)
    return batch['mask'].sum() * (1 - f1.mean()), {}


class CutMix(objectives.MultiLabel):
  """Swaps the right halves of neighboring images, and logs a scalar."""

  def loss(self, model, variables, batch, rngs):
    images, labels = batch['inputs']['image'], batch['labels']
    other = jnp.roll(images, 1, axis=0)
    left = (jnp.arange(images.shape[2]) < images.shape[2] // 2)[:, None]
    mixed = jnp.where(left, images, other)
    logits, _ = self.apply(
      model, variables, {**batch['inputs'], 'image': mixed}, rngs
    )
    labels = (labels + jnp.roll(labels, 1, axis=0)) / 2
    losses = jnp.where(batch['mask'] > 0, self.losses(logits, labels), 0)
    key_sum = jax.random.uniform(rngs['objective'])
    return losses.sum(), {'soft_labels': (labels % 1 > 0).sum() + 0 * key_sum}


def read_metrics(workdir, split):
  return [x for x in metric_writer.read(workdir) if x['split'] == split]


def make_config(**changes):
  return helpers.tiny_config('unused', **changes)


def build(num_devices=1, **changes):
  return setup_lib.build(
    make_config(**changes),
    num_train_examples=100,
    label_prior=[0.3] * NUM_GENRES,
    num_devices=num_devices,
    platform='cpu',
  )


def test_objective_that_mixes_examples_gets_the_whole_batch():
  name = {'objective.name': f'{HERE}:SoftF1', 'batch_size': 16}
  assert build(**name).micro_batch_size == 16
  with pytest.raises(errors.InputError, match='not a sum over examples'):
    build(num_devices=2, **name)
  with pytest.raises(errors.InputError, match='depends on all examples'):
    build(**name, micro_batch_size=4)


def test_objective_that_is_a_sum_is_split():
  changes = {'objective.name': f'{HERE}:CutMix', 'batch_size': 16}
  assert build(**changes).micro_batch_size == 4


def test_custom_objective_and_streams_are_trained(data_dir, tmp_path):
  config = helpers.tiny_config(
    data_dir,
    **{
      'objective.name': f'{HERE}:CutMix',
      'model.name': f'{HERE}:Net',
      'log_every': 1,
    },
  )
  assert train.train(config, tmp_path).exit_status == 0
  first = read_metrics(tmp_path, 'train')[0]
  assert 0 < first['soft_labels'] <= NUM_GENRES * 10
  with pytest.raises(errors.InputError, match='allow_custom_code'):
    predictor_lib.restore(tmp_path)


def apply_loss(config, net_name, labels):
  setup = build(**config, **{'model.name': net_name})
  rng = np.random.default_rng(0)
  batch = {
    'inputs': {'image': rng.uniform(0, 255, (2, 32, 24, 3))},
    'labels': labels,
    'mask': np.ones(2),
    'index': np.arange(2),
  }
  key = jax.random.key(0)
  images = setup.objective.preprocessing.normalize(batch['inputs']['image'])
  variables = setup.model.init(key, images, train=False)
  keys = dict.fromkeys(('objective', 'dropout', 'noise'), key)
  variables = {'params': variables['params']}
  total, aux = setup.objective.loss(setup.model, variables, batch, keys)
  logits, _ = setup.objective.apply(
    setup.model, variables, batch['inputs'], keys
  )
  return float(total), aux, logits


def test_sown_losses_are_added():
  labels = np.eye(2, NUM_GENRES)
  total, aux, logits = apply_loss({}, f'{HERE}:Net', labels)
  expected = optax.sigmoid_binary_cross_entropy(logits, labels).sum()
  assert float(aux['sown_loss']) == 2 * 0.25
  assert total == pytest.approx(float(expected) + 0.5, rel=1e-5)


def test_softmax_loss_and_scores_against_optax():
  labels = np.eye(2, NUM_GENRES)
  config = make_config(**{'objective.name': 'softmax'})
  objective = objectives.create(config, label_prior=[0.25] * NUM_GENRES)
  logits = np.random.default_rng(0).normal(size=(2, NUM_GENRES)) * 4
  np.testing.assert_allclose(
    objective.losses(jnp.asarray(logits), labels),
    optax.softmax_cross_entropy(logits, labels),
    rtol=1e-5,
  )
  fn = objectives.logits_fn(config, label_prior=[0.25] * NUM_GENRES)
  np.testing.assert_allclose(
    special.expit(fn(jnp.asarray(logits))),
    special.softmax(logits, axis=1),
    atol=1e-6,
  )
  assert objectives.logits_fn(make_config(), label_prior=[0.5]) is None


def test_validation_reports_the_configured_loss(data_dir, tmp_path):
  config = helpers.tiny_config(data_dir, **{'loss.name': 'focal'})
  train.train(config, tmp_path)
  last = read_metrics(tmp_path, 'validation')[-1]
  # The focal loss weights each cross-entropy with a factor below 1.
  assert 0 < last['loss'] < last['cross_entropy']


class Mean(SoftF1):
  """A mean over examples, where a sum is expected."""

  def loss(self, model, variables, batch, rngs):
    total, aux = super().loss(model, variables, batch, rngs)
    return total / batch['mask'].sum(), aux


def test_objective_that_is_a_mean_is_refused():
  with pytest.raises(errors.InputError, match='not the mean'):
    build(**{'objective.name': f'{HERE}:Mean', 'batch_size': 16})


class OwnMetrics(objectives.MultiLabel):
  def loss(self, model, variables, batch, rngs):
    total, aux = super().loss(model, variables, batch, rngs)
    return total, {**aux, 'count': total}


def test_reserved_names_of_metrics_are_refused(data_dir, tmp_path):
  config = helpers.tiny_config(
    data_dir, **{'objective.name': f'{HERE}:OwnMetrics'}
  )
  dataset, setup = setup_lib.set_up(config, tmp_path)
  with pytest.raises(errors.InputError, match="'count'.*in `aux`"):
    setup_lib.check_train_step(config, setup, dataset=dataset)
