"""What ConvNeXt is made of; the network as a whole is beside timm's."""

import jax
import jax.numpy as jnp
import numpy as np

from genre_flax.models import convnext


def test_the_response_norm_divides_by_the_mean_channel():
  x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
  params = {'scale': jnp.arange(5.0), 'bias': jnp.ones(5)}
  got = convnext.ResponseNorm().apply({'params': params}, x)
  norms = np.linalg.norm(np.reshape(x, (2, 12, 5)), axis=1)[:, None, None]
  share = norms / norms.mean(axis=-1, keepdims=True)
  np.testing.assert_allclose(
    got, x + x * share * np.arange(5.0) + 1, rtol=1e-4, atol=1e-5
  )


def test_the_response_norm_has_a_gradient_where_a_channel_is_0():
  x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5)).at[..., 1].set(0)
  params = {'scale': jnp.ones(5), 'bias': jnp.zeros(5)}

  def loss(params, x):
    out = convnext.ResponseNorm().apply({'params': params}, x)
    return jnp.sin(out).sum()

  for gradient in jax.tree.leaves(jax.grad(loss, (0, 1))(params, x)):
    assert np.isfinite(gradient).all()
