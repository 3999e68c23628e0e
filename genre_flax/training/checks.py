"""Checks of objectives and of the training step that need to trace them."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.datasets.posters import text_features
from genre_flax.models import side_inputs
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.runtime import rng
from genre_flax.runtime import target
from genre_flax.training import objectives
from genre_flax.training import train_state

Shapes = dict[str, jax.ShapeDtypeStruct]


def batch_shapes(
  config: ml_collections.ConfigDict,
  model: nn.Module,
  variable_shapes: dict[str, Any],
  *,
  num_genres: int,
  leading: tuple[int, ...],
  extra_inputs: Sequence[text_features.SideInput] = (),
) -> Shapes:
  """Shapes of a batch for devices, of `leading` (devices, examples of each)."""
  height, width = config_lib.image_shape(config)

  def make(shape, dtype):
    return jax.ShapeDtypeStruct((*leading, *shape), dtype)

  shapes = {
    'image': make((height, width, 3), jnp.uint8),
    'labels': make((num_genres,), jnp.float32),
    'mask': make((), jnp.float32),
    'index': make((), jnp.int32),
    **{each.name: make(each.shape, each.dtype) for each in extra_inputs},
  }
  if config.dataset.cache == 'features':
    del shapes['image']
    model = side_inputs.with_defaults(model, extra_inputs)

    def embed(variables, images):
      return model.apply(variables, images, train=False, method='embed')

    images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
    with target.traced_for(target.PORTABLE):
      features = jax.eval_shape(embed, variable_shapes, images)
    shapes['features'] = make(features.shape[1:], jnp.float32)
  return shapes


def check_train_step(
  train_step: Callable[..., Any], state: train_state.TrainState, batch: Shapes
) -> None:
  """Traces the whole training step, update included, for its shapes.

  Raises:
    InputError: a custom part fails, or the step changes shapes of the state.
  """
  try:
    new_state, _ = jax.eval_shape(train_step, state, batch)
  except errors.InputError:
    raise
  except Exception as e:  # Depends on the custom code.
    raise errors.InputError(
      f'The training step of this config fails: {type(e).__name__}: {e}'
    ) from e

  def describe(leaf):
    return f'{leaf.dtype.name}{list(leaf.shape)}'

  changed = [
    f'{jax.tree_util.keystr(path)}: {describe(before)} before,'
    f' {describe(after)} after'
    for (path, before), after in zip(
      jax.tree_util.tree_leaves_with_path(state),
      jax.tree.leaves(new_state),
      strict=True,
    )
    if describe(before) != describe(after)
  ]
  if changed:
    raise errors.InputError(
      '\n  '.join(['The training step changes the state:', *changed])
    )


def mixes_examples(
  config: ml_collections.ConfigDict,
  objective: objectives.MultiLabel,
  model: nn.Module,
  *,
  variable_shapes: dict[str, Any],
  num_genres: int,
  num_devices: int,
  extra_inputs: Sequence[text_features.SideInput] = (),
) -> bool:
  """Tests whether the loss of an example depends on others of the batch.

  The losses of two random examples, each with the other one masked, are
  compared with their loss together, with the same random keys.

  Raises:
    InputError: it does, and there are several devices, so that the loss would
      depend on their number; or it is a mean.
  """
  model = side_inputs.with_defaults(model, extra_inputs)
  shapes = batch_shapes(
    config,
    model,
    variable_shapes,
    num_genres=num_genres,
    leading=(1, 2),
    extra_inputs=extra_inputs,
  )
  first, second, together, one, twice = _masked_losses(
    config, objective, model, shapes
  )
  # Random keys, such as dropout's, differ between the two examples.
  if abs(twice) < 1.5 * abs(one):
    raise errors.InputError(
      f'config.objective.name={config.objective.name!r}: the loss of one'
      f' example is {one:.6g}, and that of the same one twice {twice:.6g}.'
      ' Return the sum over examples, not the mean: multiply by the number of'
      ' examples with mask 1.'
    )
  if np.isclose(together, first + second, rtol=1e-3, atol=1e-5):
    return False
  if num_devices > 1:
    raise errors.InputError(
      f'config.objective.name={config.objective.name!r} is not a sum over'
      f' examples: the loss of two is {together:.6g} together, and {first:.6g}'
      f' and {second:.6g} with one of them masked. With {num_devices} devices'
      ' it would depend on their number. Use one device; or set its attribute'
      ' `mixes_examples = True` and gather the batch of all devices, as'
      ' genre_flax.training.objectives.MultiLabel.loss does.'
    )
  return True


def _masked_losses(config, objective, model, shapes):
  """Losses of random examples: one, another, both; one again, and twice."""
  random = np.random.default_rng(0)

  def example(spec):
    if spec.dtype == jnp.uint8:
      return random.integers(0, 256, spec.shape, np.uint8)
    return random.random(spec.shape).round().astype(spec.dtype)

  batch = jax.tree.map(example, shapes)
  batch['index'] = np.arange(2, dtype=np.int32)[None]
  # Each genre is that of one of the two.
  batch['labels'][0, 1] = 1 - batch['labels'][0, 0]
  variables = train_state.initialize_variables(
    model,
    rng.stream_key(config.seed, rng.Stream.PARAMS),
    config_lib.image_shape(config),
  )

  def loss(batch):
    keys = {
      name: rng.named_key(config.seed, name, 0)
      for name in objectives.rng_streams(model)
    }
    with target.traced_for(target.PORTABLE):
      batch = objectives.split_inputs(batch)
      return objective.loss(model, variables, batch, keys)[0]

  compiled = jax.jit(jax.vmap(loss, axis_name=parallel.AXIS_NAME))
  same = jax.tree.map(lambda x: np.repeat(x[:, :1], 2, axis=1), batch)
  return [
    float(compiled({**examples, 'mask': np.float32([mask])})[0])
    for examples, mask in (
      *((batch, mask) for mask in ([1, 0], [0, 1], [1, 1])),
      *((same, mask) for mask in ([1, 0], [1, 1])),
    )
  ]
