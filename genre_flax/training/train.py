"""The training loop."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import time
from typing import Any

from absl import logging
from etils import epath
import ml_collections
import numpy as np

from genre_flax import config as config_lib
from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.checkpoints import shapes
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import calibration_fit
from genre_flax.evaluation import constant_baseline
from genre_flax.evaluation import evaluator
from genre_flax.evaluation import late_fusion
from genre_flax.evaluation import metrics
from genre_flax.models import initialization
from genre_flax.models import text_branch
from genre_flax.runtime import errors
from genre_flax.runtime import lock
from genre_flax.runtime import metric_writer
from genre_flax.runtime import parallel
from genre_flax.runtime import preemption
from genre_flax.runtime import profiler
from genre_flax.runtime import watchdog
from genre_flax.training import early_stopping
from genre_flax.training import feature_cache
from genre_flax.training import inputs
from genre_flax.training import objectives
from genre_flax.training import progress as progress_lib
from genre_flax.training import restore
from genre_flax.training import resume
from genre_flax.training import run_code
from genre_flax.training import setup as setup_lib

# Steps that the host may be ahead of the devices. One keeps the devices busy;
# more would hold more batches in memory, and hide the waiting for input.
_MAX_STEPS_AHEAD = 2


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The end of a training.

  Attributes:
    step: updates done.
    exit_status: 0, or the shell's status of the signal that interrupted it.
    num_trained: updates of this start.
    metrics: of the last validation, by name; empty where there was none.
  """

  step: int
  exit_status: int
  num_trained: int = dataclasses.field(default=0, compare=False)
  metrics: Mapping[str, float] = dataclasses.field(
    default_factory=dict, compare=False
  )


def train(
  config: ml_collections.ConfigDict,
  workdir: epath.PathLike,
  *,
  allow_change: Sequence[str] = (),
) -> Outcome:
  """Trains to the end; resumes the run in the workdir where there is one.

  The config has every key of configs/default.py. Keys of `allow_change`, such
  as 'optimizer.learning_rate', may differ from those of the run.

  Raises:
    InputError: the config, the dataset or the workdir does not fit.
    BusyError: another training runs in the workdir.
    StorageError: a file could not be written.
    DivergedError: a training metric became NaN or infinite.
  """
  workdir = epath.Path(workdir)
  with _locked(workdir):
    dataset, setup = setup_lib.set_up(config, workdir)
    with checkpointer_lib.Checkpointer(
      workdir,
      keep_best=config.keep_best,
      best_metric=early_stopping.best_metric(config),
    ) as checkpointer:
      state, sums = restore.restore_or_initialize(
        checkpointer, config, dataset, setup, allow_change=allow_change
      )
      step = int(state.step)
      is_main = parallel.is_main_host()
      with (
        contextlib.closing(
          metric_writer.MetricWriter(
            workdir,
            start_step=step,
            tensorboard=config.tensorboard,
            wandb=config.wandb,
            config=config_lib.to_dict(config),
            is_active=is_main,
          )
        ) as writer,
        contextlib.closing(
          progress_lib.Progress(
            setup.sizes,
            writer,
            start_step=step,
            log_every=config.log_every,
            is_active=is_main,
            sums=sums,
            batch_examples=functools.partial(
              inputs.batch_examples, config, dataset, setup.sizes
            ),
          )
        ) as progress,
      ):
        try:
          outcome = _loop(config, dataset, setup, state, checkpointer, progress)
        except errors.DivergedError as e:
          checkpointer.wait()
          last = checkpointer.steps()[-1:] or ['none']
          raise errors.DivergedError(
            f'{e}\nThe last checkpoint: {last[0]}, in {workdir}.'
          ) from e
        return dataclasses.replace(
          outcome,
          num_trained=outcome.step - step,
          metrics=max(checkpointer.ranked(), default=(step, {}))[1],
        )


@contextlib.contextmanager
def _locked(workdir: epath.Path) -> Iterator[None]:
  """Excludes other trainings from a workdir; all hosts of a run call it.

  Raises:
    BusyError: another training runs in it.
  """
  if not parallel.is_main_host():
    yield
    return
  with lock.hold(
    workdir / '.lock',
    f'Another training (process {{pid}}) runs in {workdir}; two would damage'
    ' it. Wait for its end, stop it, or choose another --workdir.',
  ):
    yield


def _loop(config, dataset, setup, state, checkpointer, progress):
  """Dispatches steps; waits for the devices only to report and to save."""
  sizes = setup.sizes
  train_split, validation_split = _open_splits(
    config, dataset, setup.model, state
  )
  train_step = watchdog.excluding_first_call(
    setup_lib.make_train_step(config, setup)
  )
  validate = _make_validator(config, dataset, setup, validation_split)
  base_meta = {
    **checkpoint_meta(config, dataset, sizes),
    'code': run_code.describe(config, setup.model),
    'structure': shapes.checksum(state.to_items()),
  }
  stopping = early_stopping.EarlyStopping(config, sizes, checkpointer)
  start = step = int(state.step)
  batches = parallel.shard_ahead(
    inputs.train_batches(config, train_split, sizes=sizes, start_step=step)
  )
  in_flight = collections.deque()
  with contextlib.closing(batches), preemption.StopNotice() as stop:
    watchdog.report_progress()
    while step < sizes.num_train_steps and not stopping.is_due(step):
      profiler.before_step(step + 1)
      with progress.waiting_for_input():
        batch = next(batches)
      with parallel.no_implicit_transfers():
        state, values = train_step(state, batch)
      step += 1
      profiler.after_step(step, values)
      progress.add(step, values)
      in_flight.append(values['loss'])
      if len(in_flight) > _MAX_STEPS_AHEAD:
        in_flight.popleft().block_until_ready()
      watchdog.report_progress()

      is_stopping = stop.is_set(step)
      is_eval = sizes.is_eval_step(step)
      if is_eval or is_stopping or _is_checkpoint_step(config, step):
        progress.check()  # Raises on NaN: such a state must not be saved.
        with progress.paused():
          meta, results = {**base_meta, 'log_sums': progress.sums}, None
          if is_eval and validation_split is not None:
            results, calibrations, fusion = validate(state)
            meta |= calibrations
            if fusion:
              state = state.with_statistics(fusion)
            split, best = config.dataset.validation_split, config.best_metric
            progress.validation(step, split, results, best_metric=best)
            results = stopping.add(step, results)
            if stopping.is_due(step):
              meta['num_train_steps'] = step
          progress.upload()
          checkpointer.save(step, state.to_items(), meta=meta, metrics=results)
      if is_stopping:
        checkpointer.wait()
        logging.warning(
          'Interrupted after step %d of %d; a checkpoint is saved in %s. Run'
          ' the same command to resume.',
          step,
          sizes.num_train_steps,
          checkpointer.workdir,
        )
        return Outcome(step, stop.exit_status)
  logging.info('Trained %d steps, %d of them now.', step, step - start)
  return Outcome(step, 0)


def _is_checkpoint_step(config, step):
  every = config.checkpoint_every_steps
  return every is not None and step % every == 0


def _open_splits(config, dataset, model, state):
  """The training and validation splits: of posters, or of cached features."""
  open_split = inputs.open_split
  if config.dataset.cache == 'features':
    open_split = functools.partial(
      feature_cache.open_split,
      model=model,
      variables={'params': state.params, 'batch_stats': state.batch_stats},
    )
  names = config.dataset.train_split, config.dataset.validation_split
  return [open_split(config, dataset, name) if name else None for name in names]


def _make_validator(config, dataset, setup, split):
  """A function of the state that validates it.

  It returns metrics, calibrations for the meta of a checkpoint, and, of a
  network with branches, the variables of their fusion.
  """
  to_logits = objectives.logits_fn(config, label_prior=dataset.label_prior)
  eval_step = watchdog.excluding_first_call(
    evaluator.make_eval_step(
      setup.model, config_lib.preprocessing(config), logits_fn=to_logits
    )
  )
  uncalibrated = calibration_fit.uncalibrated(
    dataset.genres, counts=dataset.label_sets
  )

  def logits_fn(logits):
    return logits if to_logits is None else np.asarray(to_logits(logits))

  def calibrate(logits, labels):
    return calibration_fit.fit(
      logits, labels, genres=dataset.genres, counts=dataset.label_sets
    ).to_dict()

  def validate(state):
    started = time.monotonic()
    predictions = evaluator.evaluate_split(
      eval_step,
      state.eval_variables(),
      split,
      inputs.loader_options(config, setup.sizes.global_eval_batch_size),
    )
    if not np.isfinite(predictions.logits).all():
      return {'loss': float('nan')}, {}, None  # `Progress` reports it.
    meta, fusion, labels = {}, None, predictions.labels
    if predictions.branches is not None:
      images = logits_fn(predictions.branches[:, 0])
      meta['calibration_without_text'] = calibrate(images, labels)
      fusion = late_fusion.fit(
        predictions.branches,
        labels,
        prior_logits=initialization.prior_logits(dataset.label_prior),
        loss_fn=objectives.losses_of(setup.objective),
      )
      logits = text_branch.fuse(
        predictions.branches,
        fusion,
        has_text=np.ones(len(labels), bool),
        xp=np,
      )
      predictions = evaluator.Predictions(logits_fn(logits), labels, logits)
    results = metrics.compute(
      uncalibrated.to_scores(predictions.logits), labels
    )
    meta['calibration'] = calibrate(predictions.logits, labels)
    results = {**objectives.mean_loss(setup.objective, predictions), **results}
    return {**results, 'seconds': time.monotonic() - started}, meta, fusion

  return validate


def checkpoint_meta(
  config: ml_collections.ConfigDict,
  dataset: storage.PosterDataset,
  sizes: config_lib.Sizes,
) -> dict[str, Any]:
  """Everything that the use of a checkpoint needs beside its arrays."""
  return {
    'config': config_lib.to_dict(config),
    'genres': list(dataset.genres),
    'label_prior': dataset.label_prior.tolist(),
    'constant_baseline': constant_baseline.find(
      dataset.label_sets, num_genres=len(dataset.genres)
    ),
    'dataset_fingerprint': dataset.card['fingerprint'],
    **dict.fromkeys(
      ('calibration', 'calibration_without_text'),
      calibration_fit.uncalibrated(
        dataset.genres, counts=dataset.label_sets
      ).to_dict(),
    ),
    'extra_columns': [
      dataclasses.asdict(column) for column in dataset.extra_columns
    ],
    'num_train_steps': sizes.num_train_steps,
    'jax_settings': resume.jax_settings(),
  }
