"""Training, from top to bottom."""

from collections.abc import Callable
import dataclasses
import json
import time
from typing import Any

from absl import logging
from etils import epath
import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import optax

from genre_flax import augment
from genre_flax import checkpoint
from genre_flax import config as config_lib
from genre_flax import errors
from genre_flax import evaluate
from genre_flax import input_pipeline
from genre_flax import metric_writer
from genre_flax import metrics
from genre_flax import models
from genre_flax import optimizer as optimizer_lib
from genre_flax import overview
from genre_flax import parallel
from genre_flax import preemption
from genre_flax import rng
from genre_flax import train_log
from genre_flax import train_state as train_state_lib
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage

TrainState = train_state_lib.TrainState
TrainStep = Callable[
  [TrainState, parallel.Batch], tuple[TrainState, dict[str, jax.Array]]
]


def make_train_step(
  model: nn.Module,
  optimizer: optax.GradientTransformation,
  learning_rate_fn: Callable[[jax.Array | int], jax.Array],
  *,
  config: ml_collections.ConfigDict,
) -> TrainStep:
  """Makes the step for one device; `parallel.parallelize` runs it on all.

  Args:
    model: of `models.create_model`, with axis_name=parallel.AXIS_NAME.
    optimizer: of `optimizer.make_optimizer`.
    learning_rate_fn: the same that the optimiser was made with, for the log.
    config: validated.

  Returns:
    Takes the state and one device's slice of a batch of
    `input_pipeline.train_batches`; returns the next state and metrics, the same
    on all devices: the sum 'loss' over 'count' examples, 'gradient_norm' before
    clipping, and 'learning_rate'.
  """

  def loss_fn(params, batch_stats, batch, keys, global_count):
    images = augment.augment(
      batch['image'],
      key=keys['augment'],
      index=batch['index'],
      config=config.augment,
    )
    images = augment.normalize(
      images, pixel_mean=config.pixel_mean, pixel_scale=config.pixel_scale
    )
    logits, changed = model.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      train=True,
      rngs={'dropout': keys['dropout']},
      mutable=['batch_stats'],
    )
    loss, _ = metrics.sigmoid_cross_entropy(
      logits, batch['labels'], batch['mask']
    )
    return loss / global_count, (loss, changed.get('batch_stats', {}))

  grad_fn = jax.grad(loss_fn, has_aux=True)

  def accumulate(params, batch_stats, batch, keys, global_count):
    """Sums gradients over config.accumulate_steps parts of the batch."""
    if config.accumulate_steps == 1:
      return grad_fn(params, batch_stats, batch, keys, global_count)
    parts = jax.tree.map(
      lambda x: x.reshape(config.accumulate_steps, -1, *x.shape[1:]), batch
    )

    def add_part(carry, numbered_part):
      grads, (loss, batch_stats) = carry
      number, part = numbered_part
      part_keys = {
        **keys, 'dropout': jax.random.fold_in(keys['dropout'], number)
      }
      part_grads, (part_loss, batch_stats) = grad_fn(
        params, batch_stats, part, part_keys, global_count
      )
      grads = jax.tree.map(jnp.add, grads, part_grads)
      return (grads, (loss + part_loss, batch_stats)), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    carry, _ = jax.lax.scan(
      add_part,
      (zeros, (jnp.zeros(()), batch_stats)),
      (jnp.arange(config.accumulate_steps), parts),
    )
    return carry

  def train_step(state, batch):
    dropout_key = rng.stream_key(config.seed, rng.Stream.DROPOUT, state.step)
    keys = {
      'augment': rng.stream_key(config.seed, rng.Stream.AUGMENT, state.step),
      'dropout': jax.random.fold_in(
        dropout_key, jax.lax.axis_index(parallel.AXIS_NAME)
      ),
    }
    count = jax.lax.psum((batch['mask'] > 0).sum(), parallel.AXIS_NAME)
    count = count.astype(jnp.float32)
    grads, (loss, batch_stats) = accumulate(
      state.params, state.batch_stats, batch, keys, count
    )
    grads, loss = jax.lax.psum((grads, loss), parallel.AXIS_NAME)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    new_state = TrainState(
      step=state.step + 1,
      params=params,
      batch_stats=batch_stats,
      ema_params=_update_ema(state, params, config.ema_decay),
      opt_state=opt_state,
    )
    return new_state, {
      'loss': loss,
      'count': count,
      'gradient_norm': optax.global_norm(grads),
      'learning_rate': jnp.asarray(learning_rate_fn(state.step), jnp.float32),
    }

  return train_step


def _update_ema(state: TrainState, params: Any, decay: float) -> Any:
  if state.ema_params is None:
    return None
  # The average starts short, or it would remember the random start.
  decay = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
  return jax.tree.map(
    lambda average, new: decay * average + (1 - decay) * new,
    state.ema_params,
    params,
  )


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a run ended.

  Attributes:
    step: updates done.
    exit_status: 0, or the shell's status of the signal that stopped it.
  """

  step: int
  exit_status: int


def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir: epath.PathLike
) -> Outcome:
  """Trains to the end, or goes on with the run that the workdir holds.

  Args:
    config: with every key of configs/default.py.
    workdir: for checkpoints, metrics and the resolved config.

  Returns:
    How it ended. The best checkpoint is in the workdir.

  Raises:
    InputError: the config, the data set or the workdir does not fit.
    NonFiniteError: a training metric became NaN or infinite.
  """
  config_lib.validate(config)
  workdir = epath.Path(workdir)
  dataset = open_dataset(config, workdir)
  schedule = config_lib.make_schedule(
    config,
    num_train_examples=dataset.num_examples(config.dataset.train_split),
    num_hosts=parallel.num_hosts(),
    num_devices=parallel.num_devices(),
  )
  logging.info('%s', overview.describe_run(config, schedule, dataset))

  learning_rate_fn = optimizer_lib.make_learning_rate_fn(
    config.optimizer,
    num_train_steps=schedule.num_train_steps,
    num_warmup_steps=schedule.num_warmup_steps,
  )
  optimizer = optimizer_lib.make_optimizer(
    config.optimizer, learning_rate_fn=learning_rate_fn
  )
  model = make_model(config, num_genres=len(dataset.genres))
  state = train_state_lib.create_train_state(
    model,
    optimizer,
    key=rng.stream_key(config.seed, rng.Stream.PARAMS),
    image_shape=config_lib.image_shape(config),
    use_ema=config.ema_decay > 0,
  )
  logging.info('%s', overview.describe_parameters(state.params))
  validator = _Validator(config, schedule, dataset, model)
  train_split = input_pipeline.DecodedSplit(
    dataset.open_split(config.dataset.train_split),
    image_shape=config_lib.image_shape(config),
    cache=config.dataset.cache,
  )
  train_step = parallel.parallelize(
    make_train_step(model, optimizer, learning_rate_fn, config=config),
    donate_state=True,
  )

  with checkpoint.Checkpointer(
    workdir, keep_best=config.keep_best
  ) as checkpointer:
    _check_resumable(checkpointer, config, dataset)
    restored = checkpointer.restore_latest(jax.device_get(state))
    if restored is not None:
      state = restored
      logging.info('Resuming after step %d from %s.', state.step, workdir)
    step = int(state.step)
    state = parallel.replicate(state)
    if parallel.is_main_host():
      _write_config(config, workdir)
    writer = metric_writer.MetricWriter(
      workdir,
      start_step=step,
      tensorboard=config.tensorboard,
      is_active=parallel.is_main_host(),
    )
    log = train_log.TrainLog(
      schedule,
      writer,
      start_step=step,
      log_every=config.log_every,
      is_active=parallel.is_main_host(),
    )
    batches = input_pipeline.train_batches(
      train_split,
      seed=config.seed,
      start_step=step,
      global_batch_size=schedule.global_batch_size,
      host_index=parallel.host_index(),
      num_hosts=parallel.num_hosts(),
      num_threads=config.dataset.num_threads,
      prefetch_batches=config.dataset.prefetch_batches,
    )
    placed = parallel.shard_ahead(batches)
    meta = make_meta(config, dataset)
    try:
      with preemption.StopNotice() as stop:
        while step < schedule.num_train_steps:
          with log.waiting_for_input():
            batch = next(placed)
          with jax.transfer_guard('disallow'):
            state, values = train_step(state, batch)
          step += 1
          log.add(step, values)

          is_last = step == schedule.num_train_steps
          is_eval = is_last or step % schedule.eval_every_steps == 0
          is_stopping = stop.is_set(step)
          if is_eval or is_stopping or _is_checkpoint_step(config, step):
            # A state that is not finite must not be saved.
            log.flush()
            results = validator.run(state) if is_eval else None
            if results is not None:
              writer.write(step, config.dataset.validation_split, results)
              log.info(overview.describe_validation(step, results))
            checkpointer.save(state, meta=meta, metrics=results)
            log.restart_clock()
          if is_stopping and not is_last:
            checkpointer.wait()
            logging.warning(
              'Stopped after step %d of %d, which is saved in %s. The same'
              ' command goes on from there.',
              step,
              schedule.num_train_steps,
              workdir,
            )
            return Outcome(step, stop.exit_status)
    finally:
      placed.close()
      batches.close()
      log.close()
      writer.close()
  return Outcome(step, 0)


def _is_checkpoint_step(config, step):
  every = config.checkpoint_every_steps
  return every is not None and step % every == 0


class _Validator:
  """Evaluates the training's state on the validation split."""

  def __init__(self, config, schedule, dataset, model):
    name = config.dataset.validation_split
    self._num_genres = len(dataset.genres)
    self._image_shape = config_lib.image_shape(config)
    self._split = input_pipeline.DecodedSplit(
      dataset.open_split(name),
      image_shape=self._image_shape,
      cache=config.dataset.cache,
    )
    self._batch_size = schedule.global_eval_batch_size
    self._dataset_config = config.dataset
    self._eval_step = evaluate.make_eval_step(
      model, pixel_mean=config.pixel_mean, pixel_scale=config.pixel_scale
    )

  def run(self, state: TrainState) -> dict[str, float]:
    """The validation metrics of a placed state."""
    started = time.monotonic()
    predictions = evaluate.evaluate(
      self._eval_step,
      {'params': state.eval_params, 'batch_stats': state.batch_stats},
      input_pipeline.eval_batches(
        self._split,
        num_genres=self._num_genres,
        image_shape=self._image_shape,
        global_batch_size=self._batch_size,
        host_index=parallel.host_index(),
        num_hosts=parallel.num_hosts(),
        num_threads=self._dataset_config.num_threads,
        prefetch_batches=self._dataset_config.prefetch_batches,
      ),
      num_examples=len(self._split),
      num_genres=self._num_genres,
    )
    results = evaluate.validation_metrics(predictions)
    results['seconds'] = time.monotonic() - started
    return results


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
    logging.info(
      'Drawing %d synthetic posters.', config.dataset.synthetic_posters
    )
    build.build_synthetic(
      data_dir=data_dir, num_posters=config.dataset.synthetic_posters
    )
  parallel.barrier('synthetic posters drawn')
  return storage.open_dataset(data_dir)


def make_model(
  config: ml_collections.ConfigDict, *, num_genres: int
) -> nn.Module:
  """The network of a config, to be run by `parallel.parallelize`."""
  return models.create_model(
    config.model.name,
    num_genres=num_genres,
    dtype=config.model.dtype,
    options=config.model[config.model.name],
    axis_name=parallel.AXIS_NAME,
  )


def make_meta(
  config: ml_collections.ConfigDict, dataset: storage.PosterDataset
) -> dict[str, Any]:
  """All that is needed to use a checkpoint without its config and data set."""
  return {
    'config': config_lib.to_dict(config),
    'genres': list(dataset.genres),
    'label_prior': dataset.label_prior.tolist(),
    'dataset_fingerprint': dataset.card['fingerprint'],
  }


def _check_resumable(checkpointer, config, dataset):
  steps = checkpointer.steps()
  if not steps:
    return
  try:
    saved = checkpointer.read_meta(steps[-1])
  except Exception as e:  # Damaged: restore_latest goes back to another.
    logging.error('The meta of checkpoint %d cannot be read: %s', steps[-1], e)
    return
  config_lib.check_resumable(saved['config'], config)
  if saved['dataset_fingerprint'] != dataset.card['fingerprint']:
    raise errors.InputError(
      'The workdir holds a run on another data set: fingerprint'
      f' {saved["dataset_fingerprint"]}, against {dataset.card["fingerprint"]}'
      f' in {dataset.data_dir}. Give it the data set it was started with, or'
      ' choose another --workdir.'
    )


def _write_config(config, workdir):
  (workdir / 'config.json').write_text(
    json.dumps(config_lib.to_dict(config), indent=2) + '\n'
  )
