"""Continuous evaluation: the checkpoints of a run, also while it is training.

It only needs the workdir, so it may run in another process than the training,
or on another machine with access to the workdir.
"""

from collections.abc import Callable, Iterable, Iterator
import time
from typing import Any

from absl import logging
from etils import epath

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split as scored_lib
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import progress

_POLL_SECONDS = 3.0

# Writes the report of a split into a folder; returns the content of its
# metrics.json.
WriteReport = Callable[[scored_lib.ScoredSplit, epath.Path], dict[str, Any]]


class StalledError(errors.UserError):
  """An unfinished training has not saved a checkpoint for a long time."""


def evaluate_checkpoints(
  workdir: epath.Path,
  split: str,
  *,
  watch_seconds: float | None,
  write_report: WriteReport,
  data_dir: str,
  batch_size: int,
  allow_custom_code: bool = False,
) -> list[int]:
  """Evaluates all checkpoints of a run, or each new one.

  The report of a checkpoint is written to WORKDIR/eval/SPLIT_STEP, and its
  metrics are appended to WORKDIR/eval/SPLIT. `watch_seconds` is the maximum
  wait for a new checkpoint; with None, only existing ones are evaluated.

  Returns:
    The steps of checkpoints that are damaged, or were deleted meanwhile.

  Raises:
    InputError: there is no checkpoint, or the dataset has other genres.
    StalledError: no checkpoint appeared for too long.
  """
  output = workdir / 'eval' / split
  predictor, dataset, writer, skipped = None, None, None, []
  for step in _steps(workdir, output, watch_seconds):
    started = time.monotonic()
    try:
      predictor = predictor_lib.restore(
        workdir,
        step=str(step),
        earlier=predictor,
        allow_custom_code=allow_custom_code,
      )
    except errors.InputError as e:
      logging.error('Checkpoint %d is skipped: %s', step, e)
      skipped.append(step)
      continue
    if dataset is None:
      dataset = predictor.open_dataset(data_dir or predictor.data_dir(workdir))
      output.mkdir(parents=True, exist_ok=True)
      # Earlier lines of this and later steps are replaced.
      writer = metric_writer.MetricWriter(
        output, start_step=step - 1, tensorboard=True
      )
    report = write_report(
      scored_lib.score_split(predictor, dataset, split, batch_size=batch_size),
      workdir / 'eval' / f'{split}_{step}',
    )
    values = _metric_values(report)
    writer.write(step, split, values)
    values['seconds'] = time.monotonic() - started
    best_metric = predictor.config.best_metric
    line = progress.describe_metrics(
      step, split, values, best_metric=best_metric
    )
    logging.info('%s', line)
  if writer is not None:
    writer.close()
  print(f'Metrics by step: {output / metric_writer.FILE_NAME}')
  return skipped


def _steps(workdir, output, watch_seconds) -> Iterable[int]:
  """The checkpoints to evaluate."""
  if watch_seconds is None:
    return all_checkpoints(workdir)
  done = [line['step'] for line in metric_writer.read(output)]
  return new_checkpoints(
    workdir, last_step=max(done, default=-1), timeout_seconds=watch_seconds
  )


def _metric_values(report) -> dict[str, float]:
  values = {name: entry['value'] for name, entry in report['metrics'].items()}
  return {name: value for name, value in values.items() if value is not None}


def all_checkpoints(workdir: epath.PathLike) -> list[int]:
  """The steps of the existing checkpoints, ascending.

  Raises:
    InputError: there are none.
  """
  steps, _ = read_steps(workdir)
  if not steps:
    raise errors.InputError(
      f'{workdir} has no checkpoint to evaluate. Is it the --workdir of a'
      ' training run?'
    )
  return steps


def new_checkpoints(
  workdir: epath.PathLike,
  *,
  last_step: int,
  timeout_seconds: float,
  sleep: Callable[[float], None] = time.sleep,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[int]:
  """Yields the steps of new checkpoints until the end of the training.

  Yields:
    The steps, ascending.

  Raises:
    StalledError: no checkpoint appeared for too long.
  """
  last_time = clock()
  while True:
    steps, num_train_steps = read_steps(workdir)
    for step in steps:
      if step > last_step:
        yield step
        last_step, last_time = step, clock()
    if (
      num_train_steps is not None and max(last_step, *steps) >= num_train_steps
    ):
      return
    if clock() - last_time > timeout_seconds:
      raise StalledError(
        f'There was no new checkpoint in {workdir} for'
        f' {timeout_seconds / 60:.0f} minutes (latest step:'
        f' {steps[-1] if steps else "none"}, last step of the training:'
        f' {num_train_steps or "unknown"}). If the training is still running,'
        ' the same command resumes the evaluation.'
      )
    sleep(_POLL_SECONDS)


def read_steps(workdir: epath.PathLike) -> tuple[list[int], int | None]:
  """The steps of the checkpoints, and the last step of the training."""
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    steps = checkpointer.steps()
    for step in reversed(steps):
      try:
        return steps, int(checkpointer.read_meta(step)['num_train_steps'])
      except errors.DamageError:
        continue  # Its evaluation reports the damage.
    return steps, None
