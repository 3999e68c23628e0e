import jax
import jax.numpy as jnp

from examples import wide_net_config
from genre_flax.models import registry


def test_one_logit_per_genre():
  config = wide_net_config.get_config().model
  model = registry.create_from_config(config, num_genres=7)
  images = jnp.ones((2, 96, 64, 3))
  logits, _ = model.init_with_output(jax.random.key(0), images, train=False)
  assert logits.shape == (2, 7)
  assert model.width == 16
