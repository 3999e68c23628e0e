"""A small config, states, and comparisons of trees."""

import jax
import jax.numpy as jnp
import numpy as np

from configs import default
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import recovery
from genre_flax.models import registry
from genre_flax.training import restore
from genre_flax.training import setup as setup_lib
from genre_flax.training import train_state

# Built-in networks whose input is an image.
IMAGE_NETWORKS = sorted({*registry.MODELS} - {'text'})


def tiny_config(data_dir, **changes):
  """The config of a training of a few seconds on the dataset fixture."""
  config = default.get_config()
  config.dataset.data_dir = str(data_dir)
  config.dataset.cache = 'memory'
  config.image_height = 32
  config.image_width = 24
  config.model.name = 'tiny'
  config.model.tiny.features = (8, 16)
  config.batch_size = 16
  config.num_train_steps = 6
  config.eval_every_epochs = 0.5
  config.optimizer.learning_rate = 3e-3
  config.optimizer.warmup_epochs = 0.0
  config.log_every = 2
  config.bootstrap_samples = 20
  config.tensorboard = False
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  return config


def final_state(config, workdir):
  """The state in the latest checkpoint of a workdir."""
  _, setup = setup_lib.set_up(config, workdir)
  with checkpointer_lib.Checkpointer(workdir) as checkpointer:
    items, _ = recovery.restore_latest(
      checkpointer, restore.checkpoint_template(config, setup)
    )
    return train_state.TrainState.from_items(items)


def random_variables(model, image_shape, *, spread):
  """Variables that all affect the output: scales near 1, others near 0."""
  images = jax.ShapeDtypeStruct((1, *image_shape, 3), jnp.float32)
  shapes = jax.eval_shape(
    lambda images: model.init(jax.random.key(0), images, train=False), images
  )
  rng = np.random.default_rng(0)
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: np.float32(
      spread * rng.normal(size=leaf.shape) + (path[-1].key in ('scale', 'var'))
    ),
    shapes,
  )


def assert_trees_equal(actual, expected):
  """Equal structures, and arrays that are equal bit for bit."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def assert_trees_close(actual, expected, *, atol):
  """Equal structures, and arrays that differ by at most `atol`."""
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=atol)
