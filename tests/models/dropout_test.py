"""What a training drops at random."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genre_flax.models import dropout


class TestDropout:
  inputs = jnp.ones((200, 500))

  def apply(self, rate, *, deterministic=False):
    return dropout.Dropout(rate).apply(
      {},
      self.inputs,
      deterministic=deterministic,
      rngs={'dropout': jax.random.key(0)},
    )

  @pytest.mark.parametrize('rate', [0.25, 0.5, 0.1])
  def test_drops_its_share_and_keeps_the_expectation(self, rate):
    out = self.apply(rate)
    # Standard error of the share over 100,000 draws: at most 0.0016.
    assert float((out == 0).mean()) == pytest.approx(rate, abs=0.008)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.01)

  def test_a_rate_close_to_1_drops_nearly_all(self):
    assert float((self.apply(0.9999) == 0).mean()) == pytest.approx(
      255 / 256, abs=0.002
    )

  def test_kept_elements_are_scaled(self):
    assert set(np.unique(self.apply(0.25))) == {
      np.float32(0.0),
      np.float32(256 / 192),
    }

  def test_is_the_identity_where_deterministic_or_of_rate_0(self):
    assert self.apply(0.5, deterministic=True) is self.inputs
    assert self.apply(0.0) is self.inputs


def test_stochastic_depth_drops_whole_examples():
  inputs = jnp.ones((2000, 3, 2))

  def apply(*, deterministic):
    return dropout.StochasticDepth(0.25).apply(
      {},
      inputs,
      deterministic=deterministic,
      rngs={'dropout': jax.random.key(0)},
    )

  out = np.asarray(apply(deterministic=False))
  assert (out == out[:, :1, :1]).all()
  assert set(np.unique(out)) == {np.float32(0), np.float32(4 / 3)}
  # Standard error of the share over 2,000 examples: 0.01.
  assert (out[:, 0, 0] == 0).mean() == pytest.approx(0.25, abs=0.04)
  assert apply(deterministic=True) is inputs
