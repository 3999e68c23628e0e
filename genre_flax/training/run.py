"""All of a run that is fixed before its first step."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import os
from typing import Any

from absl import logging
from etils import epath
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax import config as config_lib
from genre_flax import config_rules
from genre_flax.data import cache as cache_lib
from genre_flax.data import input_pipeline
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import constant_baseline
from genre_flax.models import params as params_lib
from genre_flax.models import registry
from genre_flax.runtime import errors
from genre_flax.runtime import parallel
from genre_flax.runtime import platform
from genre_flax.runtime import rng
from genre_flax.training import losses
from genre_flax.training import optimizer as optimizer_lib
from genre_flax.training import overview
from genre_flax.training import train_state as train_state_lib
from genre_flax.training import train_step as train_step_lib


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that was checked and can start.

  Attributes:
    config: validated.
    workdir: for checkpoints, metrics and the resolved config.
    dataset: to train on.
    schedule: batch sizes and numbers of steps.
    model: the network, to be run by `parallel.parallelize`.
    optimizer: the optax chain.
    learning_rate_fn: maps updates done so far to the next learning rate.
  """

  config: ml_collections.ConfigDict
  workdir: epath.Path
  dataset: storage.PosterDataset
  schedule: config_lib.Schedule
  model: nn.Module
  optimizer: optax.GradientTransformation
  learning_rate_fn: Callable[[jax.Array | int], jax.Array]

  def create_state(self) -> train_state_lib.TrainState:
    """The state at step 0, with random parameters."""
    return train_state_lib.create_train_state(
      self.model,
      self.optimizer,
      key=rng.stream_key(self.config.seed, rng.Stream.PARAMS),
      image_shape=config_lib.image_shape(self.config),
      trainable=self.config.trainable,
      use_ema=self.config.ema_decay > 0,
    )

  def make_loss(self) -> losses.Loss:
    """The loss of the config, for this data set."""
    return losses.make_loss(
      self.config.loss,
      label_prior=self.dataset.label_prior,
      num_examples=self.schedule.num_train_examples,
    )

  def make_train_step(
    self, *, devices: Sequence[jax.Device] | None = None
  ) -> train_step_lib.TrainStep:
    """The step on all devices; it takes the state's memory.

    Args:
      devices: to compile for; None for the devices of the run.
    """
    return parallel.parallelize(
      train_step_lib.make_train_step(
        self.model,
        self.optimizer,
        self.learning_rate_fn,
        loss=self.make_loss(),
        config=self.config,
      ),
      donate_state=True,
      devices=devices,
    )

  def decode_split(self, name: str) -> input_pipeline.DecodedSplit:
    """Opens a split for the run's image size, with the cache of the config.

    Raises:
      InputError: there is no such split, or no room for the cache.
    """
    split = self.dataset.open_split(name)
    image_shape = config_lib.image_shape(self.config)
    return input_pipeline.DecodedSplit(
      split,
      image_shape=image_shape,
      cache=self._make_cache(name, len(split), (*image_shape, 3)),
    )

  def _make_cache(self, split, num_examples, image_shape):
    given = self.config.dataset
    if given.cache == 'memory':
      return cache_lib.MemoryCache(num_examples, image_shape)
    if given.cache == 'disk':
      file_name = cache_lib.disk_cache_name(
        fingerprint=self.dataset.card['fingerprint'],
        split=split,
        image_shape=image_shape,
      )
      folder = given.cache_dir or str(platform.default_cache_dir() / 'decoded')
      return cache_lib.DiskCache(
        os.path.join(os.path.expanduser(folder), file_name),
        num_examples=num_examples,
        image_shape=image_shape,
        num_genres=len(self.dataset.genres),
      )
    return None

  def train_batches(
    self, split: input_pipeline.Examples, start_step: int
  ) -> input_pipeline.Batches:
    """This host's batches of a split after `start_step` updates."""
    options = input_pipeline.LoaderOptions(
      global_batch_size=self.schedule.global_batch_size,
      num_threads=self.config.dataset.num_threads,
      prefetch_batches=self.config.dataset.prefetch_batches,
    )
    return input_pipeline.train_batches(
      split, options, seed=self.config.seed, start_step=start_step
    )

  def meta(self) -> dict[str, Any]:
    """All that is needed to use a checkpoint without config and data set."""
    return {
      'config': config_lib.to_dict(self.config),
      'genres': list(self.dataset.genres),
      'label_prior': self.dataset.label_prior.tolist(),
      'constant_baseline': constant_baseline.find(
        self.dataset.label_sets, num_genres=len(self.dataset.genres)
      ),
      'dataset_fingerprint': self.dataset.card['fingerprint'],
      'num_train_steps': self.schedule.num_train_steps,
    }


def set_up(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> Run:
  """Checks everything that can be checked before a run, and logs what it is.

  Args:
    config: with every key of configs/default.py.
    workdir: of the run; synthetic posters are drawn into it.

  Returns:
    The run.

  Raises:
    InputError: the config or the data set does not fit.
    DamageError: the data set is not what was written.
  """
  config_rules.validate(config)
  workdir = epath.Path(workdir)
  dataset = open_dataset(config, workdir)
  _check_splits(dataset, config)
  run = make_run(
    config,
    workdir,
    dataset=dataset,
    num_hosts=parallel.num_hosts(),
    num_devices=parallel.num_devices(),
  )
  params = jax.eval_shape(run.create_state).params
  if parallel.is_main_host():
    logging.info('%s', overview.describe_run(config, run.schedule, dataset))
    logging.info(
      '%s', overview.describe_parameters(params, trainable=config.trainable)
    )
  return run


def _check_splits(
  dataset: storage.PosterDataset, config: ml_collections.ConfigDict
) -> None:
  """Finds damage before the hours of a training, and not after them.

  All files of the splits are read: a few seconds for ten gigabytes.

  Raises:
    InputError: there is no such split.
    DamageError: its files are damaged.
  """
  given = config.dataset
  for name in (given.train_split, given.validation_split, given.test_split):
    if name:
      dataset.open_split(name, check_records=True)


def make_run(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  *,
  dataset: storage.PosterDataset,
  num_hosts: int,
  num_devices: int,
) -> Run:
  """Puts a run together, and checks that its parts fit.

  Args:
    config: validated.
    workdir: of the run.
    dataset: to train on; its records are not opened.
    num_hosts: processes of the run.
    num_devices: of all hosts together.

  Returns:
    The run.

  Raises:
    InputError: the batch does not divide among the devices, no parameter is
      trained, or the network is not what the config asks for.
  """
  schedule = config_lib.make_schedule(
    config,
    num_train_examples=dataset.num_examples(config.dataset.train_split),
    num_hosts=num_hosts,
    num_devices=num_devices,
  )
  learning_rate_fn = optimizer_lib.make_learning_rate_fn(
    config.optimizer,
    num_train_steps=schedule.num_train_steps,
    num_warmup_steps=schedule.num_warmup_steps,
  )
  model = registry.create_from_config(
    config.model, num_genres=len(dataset.genres), axis_name=parallel.AXIS_NAME
  )
  registry.check_output(
    model,
    name=config.model.name,
    image_shape=config_lib.image_shape(config),
    num_genres=len(dataset.genres),
  )
  params = _shapes_of_parameters(model, config)
  params_lib.check_pattern(params, config.trainable)
  if config.head_bias_from_prior and 'bias' not in params[params_lib.HEAD]:
    raise errors.InputError(
      f'config.head_bias_from_prior=True needs a bias in the layer'
      f' {params_lib.HEAD!r}, and that of config.model.name='
      f'{config.model.name!r} has none; set it to False.'
    )
  run = Run(
    config=config,
    workdir=workdir,
    dataset=dataset,
    schedule=schedule,
    model=model,
    optimizer=optimizer_lib.make_optimizer(
      config.optimizer,
      learning_rate_fn=learning_rate_fn,
      layer_order=getattr(model, 'layer_order', None),
      paths=params_lib.flatten(params, sep='/'),
    ),
    learning_rate_fn=learning_rate_fn,
  )
  run.make_loss()  # One of one's own is tried on shapes.
  return run


def _shapes_of_parameters(model, config):
  height, width = config_lib.image_shape(config)
  images = jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)
  init = functools.partial(model.init, train=False)
  try:
    return jax.eval_shape(init, jax.random.key(0), images)['params']
  except errors.InputError:
    raise
  except (TypeError, ValueError, ZeroDivisionError) as e:
    words = str(e).partition('\n')[0]
    raise errors.InputError(
      f'The network {config.model.name!r} cannot be made for images of'
      f' {height} x {width} pixels: {words}. Are they too small for its layers?'
    ) from e


def open_dataset(
  config: ml_collections.ConfigDict, workdir: epath.Path
) -> storage.PosterDataset:
  """Opens the data set of a config; draws the synthetic one where it asks.

  Raises:
    InputError: there is no data set.
  """
  if not config.dataset.synthetic_posters:
    return storage.open_dataset(config.dataset.data_dir)
  data_dir = workdir / 'data'
  if parallel.is_main_host():
    build.build_synthetic(
      data_dir=data_dir, num_posters=config.dataset.synthetic_posters
    )
  parallel.barrier('synthetic posters drawn')
  return storage.open_dataset(data_dir)
