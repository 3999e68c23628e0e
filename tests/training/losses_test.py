"""Tests of losses against the formulas of the papers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import default
from genre_flax import config_validation
from genre_flax.training import losses


def make_loss(prior=(0.5,) * 3, num_examples=100, **changes):
  config = default.get_config().loss
  config.update(changes)
  return losses.make_loss(config, label_prior=prior, num_examples=num_examples)


def random_batch(seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, (20, 3)).astype(np.float32)
  labels = (rng.random((20, 3)) < 0.4).astype(np.float32)
  return logits, labels


NEUTRAL = {
  'sigmoid_cross_entropy': {},
  'focal': {'focal_gamma': 0.0},
  'asymmetric': {
    'asymmetric_gamma_positive': 0.0,
    'asymmetric_gamma_negative': 0.0,
    'asymmetric_margin': 0.0,
  },
}


@pytest.mark.parametrize('name', config_validation.LOSSES)
def test_neutral_parameters_give_binary_cross_entropy(name):
  logits, labels = random_batch()
  got = make_loss(name=name, **NEUTRAL[name])(logits, labels)
  expected = optax.sigmoid_binary_cross_entropy(logits, labels).sum(axis=1)
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def one_element(loss, p, label):
  """The loss of one element with probability p."""
  logit = jnp.full((1, 3), math.log(p / (1 - p)))
  return float(loss(logit, jnp.full((1, 3), label))[0]) / 3


@pytest.mark.parametrize('p', [0.01, 0.3, 0.9])
def test_focal_and_asymmetric_loss_formulas(p):
  focal = make_loss(name='focal', focal_gamma=2.0)
  asymmetric = make_loss(
    name='asymmetric',
    asymmetric_gamma_positive=1.0,
    asymmetric_gamma_negative=4.0,
    asymmetric_margin=0.05,
  )
  shifted = max(p - 0.05, 0)
  got = [one_element(f, p, y) for f in (focal, asymmetric) for y in (1.0, 0.0)]
  expected = [
    -((1 - p) ** 2) * math.log(p),
    -(p**2) * math.log(1 - p),
    -(1 - p) * math.log(p),
    -(shifted**4) * math.log(1 - shifted),
  ]
  assert got == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize('name', config_validation.LOSSES)
def test_gradients_are_finite_at_the_extremes(name):
  loss = make_loss(name=name)
  logits = jnp.array([[-200.0, 0.0, 200.0], [200.0, -200.0, 50.0]])
  labels = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
  value, gradient = jax.value_and_grad(lambda x: loss(x, labels).sum())(logits)
  assert np.isfinite(value)
  assert np.isfinite(gradient).all()


def test_label_smoothing_against_hand_computed_values():
  loss = make_loss(label_smoothing=0.2)
  expected = -(0.9 * math.log(0.7) + 0.1 * math.log(0.3))
  assert one_element(loss, 0.7, 1.0) == pytest.approx(expected, rel=1e-5)
  expected = -(0.1 * math.log(0.7) + 0.9 * math.log(0.3))
  assert one_element(loss, 0.7, 0.0) == pytest.approx(expected, rel=1e-5)


def test_class_balanced_weights_formula():
  weights = losses.class_balanced_weights(np.array([10, 1000, 0]), beta=0.99)
  raw = [0.01 / (1 - 0.99**10), 0.01 / (1 - 0.99**1000)]
  np.testing.assert_allclose(
    weights[:2], np.array(raw) / np.mean(raw), rtol=1e-5
  )
  assert weights[2] == 1
  np.testing.assert_array_equal(
    losses.class_balanced_weights(np.array([5, 7]), beta=0.0), [1, 1]
  )


def test_class_balanced_weights_apply_to_positives():
  weighted = make_loss(prior=(0.1, 0.9, 0.9), class_balanced_beta=0.999)
  plain = make_loss()
  logits = jnp.array([[1.0, -1.0, 0.5]])
  none = jnp.zeros((1, 3))
  assert float(weighted(logits, none)[0]) == pytest.approx(
    float(plain(logits, none)[0])
  )
  first = none.at[0, 0].set(1.0)
  assert float(weighted(logits, first)[0]) > float(plain(logits, first)[0])


def test_labels_with_another_shape_raise():
  with pytest.raises(ValueError, match='labels'):
    make_loss()(jnp.zeros((3, 3)), jnp.zeros((3, 1)))


def test_bfloat16_logits_are_summed_in_float32():
  loss = make_loss(prior=[0.5] * 1000)
  zeros = jnp.zeros((1, 1000))
  (total,) = loss(zeros.astype(jnp.bfloat16), zeros)
  assert total.dtype == jnp.float32
  assert float(total) == pytest.approx(1000 * math.log(2), rel=1e-5)
