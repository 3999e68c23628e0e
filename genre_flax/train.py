"""Training, from top to bottom."""

import collections
from collections.abc import Callable
import dataclasses
import json
import time
from typing import Any

from absl import logging
from etils import epath
import flax.linen as nn
import jax
import ml_collections
import optax

from genre_flax import checkpoint
from genre_flax import config as config_lib
from genre_flax import errors
from genre_flax import evaluate
from genre_flax import input_pipeline
from genre_flax import metric_writer
from genre_flax import models
from genre_flax import optimizer as optimizer_lib
from genre_flax import overview
from genre_flax import parallel
from genre_flax import preemption
from genre_flax import rng
from genre_flax import train_log
from genre_flax import train_state as train_state_lib
from genre_flax import train_step as train_step_lib
from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage

TrainState = train_state_lib.TrainState
# Steps that the host may be ahead of the devices. One is enough to keep them
# busy; more would hold more batches in memory, and hide waiting for input.
_MAX_STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a run ended.

  Attributes:
    step: updates done.
    exit_status: 0, or the shell's status of the signal that stopped it.
  """

  step: int
  exit_status: int


@dataclasses.dataclass(frozen=True)
class Run:
  """All of a run that is fixed before its first step."""

  config: ml_collections.ConfigDict
  workdir: epath.Path
  dataset: storage.PosterDataset
  schedule: config_lib.Schedule
  model: nn.Module
  optimizer: optax.GradientTransformation
  learning_rate_fn: Callable[[jax.Array | int], jax.Array]

  def create_state(self) -> TrainState:
    """The state at step 0."""
    return train_state_lib.create_train_state(
      self.model,
      self.optimizer,
      key=rng.stream_key(self.config.seed, rng.Stream.PARAMS),
      image_shape=config_lib.image_shape(self.config),
      use_ema=self.config.ema_decay > 0,
    )

  def make_train_step(self) -> train_step_lib.TrainStep:
    """The step on all devices; it takes the state's memory."""
    return parallel.parallelize(
      train_step_lib.make_train_step(
        self.model, self.optimizer, self.learning_rate_fn, config=self.config
      ),
      donate_state=True,
    )

  def decode_split(self, name: str) -> input_pipeline.DecodedSplit:
    """Opens a split for the run's image size."""
    return input_pipeline.DecodedSplit(
      self.dataset.open_split(name),
      image_shape=config_lib.image_shape(self.config),
      cache=self.config.dataset.cache,
    )

  def train_batches(self, start_step: int) -> input_pipeline.Batches:
    """This host's batches after `start_step` updates."""
    return input_pipeline.train_batches(
      self.decode_split(self.config.dataset.train_split),
      seed=self.config.seed,
      start_step=start_step,
      global_batch_size=self.schedule.global_batch_size,
      host_index=parallel.host_index(),
      num_hosts=parallel.num_hosts(),
      num_threads=self.config.dataset.num_threads,
      prefetch_batches=self.config.dataset.prefetch_batches,
    )

  def meta(self) -> dict[str, Any]:
    """All that is needed to use a checkpoint without config and data set."""
    return {
      'config': config_lib.to_dict(self.config),
      'genres': list(self.dataset.genres),
      'label_prior': self.dataset.label_prior.tolist(),
      'dataset_fingerprint': self.dataset.card['fingerprint'],
    }


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
  run = set_up(config, workdir)
  with checkpoint.Checkpointer(
    run.workdir, keep_best=config.keep_best
  ) as checkpointer:
    state = _restore_or_create(run, checkpointer)
    step = int(state.step)
    writer = metric_writer.MetricWriter(
      run.workdir,
      start_step=step,
      tensorboard=config.tensorboard,
      is_active=parallel.is_main_host(),
    )
    log = train_log.TrainLog(
      run.schedule,
      writer,
      start_step=step,
      log_every=config.log_every,
      is_active=parallel.is_main_host(),
    )
    try:
      return _train(run, state, checkpointer, log)
    finally:
      log.close()
      writer.close()


def set_up(config: ml_collections.ConfigDict, workdir: epath.PathLike) -> Run:
  """Checks everything that can be checked before a run, and logs what it is.

  Args:
    config: with every key of configs/default.py.
    workdir: of the run; synthetic posters are drawn into it.

  Returns:
    The run.

  Raises:
    InputError: the config or the data set does not fit.
  """
  config_lib.validate(config)
  workdir = epath.Path(workdir)
  dataset = open_dataset(config, workdir)
  dataset.num_examples(config.dataset.validation_split)
  if config.dataset.test_split:
    dataset.num_examples(config.dataset.test_split)
  schedule = config_lib.make_schedule(
    config,
    num_train_examples=dataset.num_examples(config.dataset.train_split),
    num_hosts=parallel.num_hosts(),
    num_devices=parallel.num_devices(),
  )
  learning_rate_fn = optimizer_lib.make_learning_rate_fn(
    config.optimizer,
    num_train_steps=schedule.num_train_steps,
    num_warmup_steps=schedule.num_warmup_steps,
  )
  run = Run(
    config=config,
    workdir=workdir,
    dataset=dataset,
    schedule=schedule,
    model=models.create_from_config(
      config.model,
      num_genres=len(dataset.genres),
      axis_name=parallel.AXIS_NAME,
    ),
    optimizer=optimizer_lib.make_optimizer(
      config.optimizer, learning_rate_fn=learning_rate_fn
    ),
    learning_rate_fn=learning_rate_fn,
  )
  params = jax.eval_shape(run.create_state).params
  if parallel.is_main_host():
    logging.info('%s', overview.describe_run(config, schedule, dataset))
    logging.info('%s', overview.describe_parameters(params))
  return run


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


def _restore_or_create(run, checkpointer):
  """The state to go on from, on the devices; the workdir gets the config."""
  _check_resumable(run, checkpointer)
  state = run.create_state()
  restored = checkpointer.restore_latest(jax.device_get(state))
  if restored is not None:
    state = restored
    logging.info('Resuming after step %d from %s.', state.step, run.workdir)
  if parallel.is_main_host():
    run.workdir.mkdir(parents=True, exist_ok=True)
    resolved = json.dumps(config_lib.to_dict(run.config), indent=2)
    (run.workdir / 'config.json').write_text(f'{resolved}\n')
  return parallel.replicate(state)


def _check_resumable(run, checkpointer):
  steps = checkpointer.steps()
  if not steps:
    return
  try:
    saved = checkpointer.read_meta(steps[-1])
  except Exception as e:  # Damaged: restore_latest goes back to another.
    logging.error('The meta of checkpoint %d cannot be read: %s', steps[-1], e)
    return
  config_lib.check_resumable(saved['config'], run.config)
  fingerprint = run.dataset.card['fingerprint']
  if saved['dataset_fingerprint'] != fingerprint:
    raise errors.InputError(
      'The workdir holds a run on another data set: fingerprint'
      f' {saved["dataset_fingerprint"]}, against {fingerprint} in'
      f' {run.dataset.data_dir}. Give it the data set it was started with, or'
      ' choose another --workdir.'
    )


def _train(run, state, checkpointer, log):
  """The loop; it dispatches steps, and waits for the devices only to report."""
  config, num_steps = run.config, run.schedule.num_train_steps
  train_step = run.make_train_step()
  validate = _make_validator(run)
  meta = run.meta()
  step = int(state.step)
  batches = parallel.shard_ahead(run.train_batches(step))
  in_flight = collections.deque()
  try:
    with preemption.StopNotice() as stop:
      while step < num_steps:
        with log.waiting_for_input():
          batch = next(batches)
        with jax.transfer_guard('disallow'):
          state, values = train_step(state, batch)
        step += 1
        log.add(step, values)
        in_flight.append(values['loss'])
        if len(in_flight) > _MAX_STEPS_AHEAD:
          in_flight.popleft().block_until_ready()

        is_stopping = stop.is_set(step) and step < num_steps
        is_eval = step == num_steps or step % run.schedule.eval_every_steps == 0
        if is_eval or is_stopping or _is_checkpoint_step(config, step):
          log.check()  # Raises on NaN: such a state must not be saved.
          with log.paused():
            results = validate(state) if is_eval else None
            if results is not None:
              log.validation(step, config.dataset.validation_split, results)
            checkpointer.save(state, meta=meta, metrics=results)
        if is_stopping:
          checkpointer.wait()
          logging.warning(
            'Stopped after step %d of %d, which is saved in %s. The same'
            ' command goes on from there.',
            step,
            num_steps,
            run.workdir,
          )
          return Outcome(step, stop.exit_status)
  finally:
    batches.close()
  return Outcome(step, 0)


def _is_checkpoint_step(config, step):
  every = config.checkpoint_every_steps
  return every is not None and step % every == 0


def _make_validator(run):
  """A function of the state that returns its validation metrics."""
  split = run.decode_split(run.config.dataset.validation_split)
  eval_step = evaluate.make_eval_step(
    run.model,
    pixel_mean=run.config.pixel_mean,
    pixel_scale=run.config.pixel_scale,
  )

  def validate(state: TrainState) -> dict[str, float]:
    started = time.monotonic()
    predictions = evaluate.evaluate_split(
      eval_step,
      {'params': state.eval_params, 'batch_stats': state.batch_stats},
      split,
      global_batch_size=run.schedule.global_eval_batch_size,
      num_threads=run.config.dataset.num_threads,
      prefetch_batches=run.config.dataset.prefetch_batches,
    )
    results = evaluate.validation_metrics(predictions)
    return {**results, 'seconds': time.monotonic() - started}

  return validate
