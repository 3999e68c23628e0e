"""Training, from top to bottom."""

import collections
from collections.abc import Iterator
import contextlib
import dataclasses
import time

from absl import logging
from etils import epath
import jax
import ml_collections

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.data import input_pipeline
from genre_flax.evaluation import calibration_fit
from genre_flax.evaluation import evaluator
from genre_flax.runtime import lock
from genre_flax.runtime import metric_writer
from genre_flax.runtime import parallel
from genre_flax.runtime import preemption
from genre_flax.training import features
from genre_flax.training import resume
from genre_flax.training import run as run_lib
from genre_flax.training import train_log

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
    BusyError: another training runs in the workdir.
    StorageError: something could not be written.
    NonFiniteError: a training metric became NaN or infinite.
  """
  with _alone_in(workdir):
    return _train_here(run_lib.set_up(config, workdir))


@contextlib.contextmanager
def _alone_in(workdir: epath.PathLike) -> Iterator[None]:
  """Keeps other trainings out of a workdir; all hosts of a run call it.

  Raises:
    BusyError: another training runs in it.
  """
  if not parallel.is_main_host():
    yield
    return
  with lock.hold(
    epath.Path(workdir) / '.lock',
    f'Another training (process {{pid}}) runs in {workdir}; two would damage'
    ' it. Wait for its end, stop it, or choose another --workdir.',
  ):
    yield


def _train_here(run: run_lib.Run) -> Outcome:
  config = run.config
  with checkpointer_lib.Checkpointer(
    run.workdir, keep_best=config.keep_best
  ) as checkpointer:
    state, log_sums = resume.restore_or_create(run, checkpointer)
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
      sums=log_sums,
    )
    try:
      return _train(run, state, checkpointer, log)
    finally:
      log.close()
      writer.close()


def _train(run, state, checkpointer, log):
  """The loop; it dispatches steps, and waits for the devices only to report."""
  config, num_steps = run.config, run.schedule.num_train_steps
  train_split, validation_split = _open_splits(run, state)
  train_step = run.make_train_step()
  validate = _make_validator(run, validation_split)
  step = int(state.step)
  batches = parallel.shard_ahead(run.train_batches(train_split, step))
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

        is_stopping = stop.is_set(step)
        is_eval = run.schedule.is_eval_step(step)
        if is_eval or is_stopping or _is_checkpoint_step(config, step):
          log.check()  # Raises on NaN: such a state must not be saved.
          with log.paused():
            meta, results = {**run.meta(), 'log_sums': log.sums}, None
            if is_eval:
              results, calibration = validate(state)
              meta['calibration'] = calibration.to_dict()
              log.validation(step, config.dataset.validation_split, results)
            checkpointer.save(
              step, state.to_items(), meta=meta, metrics=results
            )
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
  logging.info('Trained %d steps.', step)
  return Outcome(step, 0)


def _is_checkpoint_step(config, step):
  every = config.checkpoint_every_steps
  return every is not None and step % every == 0


def _open_splits(run, state):
  """The splits to train and to validate on: posters, or cached features."""
  names = (
    run.config.dataset.train_split,
    run.config.dataset.validation_split,
  )
  if run.config.dataset.cache == 'features':
    return tuple(features.cached_split(run, state, name) for name in names)
  return tuple(run.decode_split(name) for name in names)


def _make_validator(run, split):
  """A function of the state: its validation metrics, and a calibration."""
  config = run.config
  eval_step = evaluator.make_eval_step(
    run.model, config_lib.preprocessing(config)
  )

  def validate(state):
    started = time.monotonic()
    predictions = evaluator.evaluate_split(
      eval_step,
      state.eval_variables(),
      split,
      input_pipeline.LoaderOptions(
        global_batch_size=run.schedule.global_eval_batch_size,
        num_threads=config.dataset.num_threads,
        prefetch_batches=config.dataset.prefetch_batches,
      ),
    )
    results = evaluator.validation_metrics(predictions)
    calibration = calibration_fit.fit(
      predictions.logits,
      predictions.labels,
      genres=run.dataset.genres,
      counts=run.dataset.label_sets,
    )
    return {**results, 'seconds': time.monotonic() - started}, calibration

  return validate
