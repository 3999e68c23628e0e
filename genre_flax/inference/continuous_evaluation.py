"""Evaluates the checkpoints of a run one by one, also while it is training.

Nothing but the workdir connects this to the training, so it may run in a
process of its own, or on another machine that sees the workdir.
"""

from collections.abc import Callable, Iterator
import sys
import time
from typing import Any

from absl import logging
from etils import epath

from genre_flax.checkpoints import checkpointer as checkpointer_lib
from genre_flax.datasets.posters import storage
from genre_flax.inference import predictor as predictor_lib
from genre_flax.inference import scored_split as scored_lib
from genre_flax.reports import summary
from genre_flax.runtime import errors
from genre_flax.runtime import metric_writer
from genre_flax.training import progress

_POLL_SECONDS = 3.0


class StalledError(Exception):
  """A training that has not ended has saved nothing for a long time."""


def evaluate_many(
  workdir: epath.Path,
  split: str,
  *,
  watch_seconds: float | None,
  data_dir: str,
  batch_size: int,
  bootstrap_samples: int,
  allow_custom_code: bool = False,
) -> int:
  """Evaluates all checkpoints of a run, or each that appears.

  Args:
    workdir: of the run.
    split: its name.
    watch_seconds: longest wait for a new checkpoint of a running training; None
      for the checkpoints that are there.
    data_dir: of the split; '' for that of the training.
    batch_size: posters a step.
    bootstrap_samples: resamples behind the intervals.
    allow_custom_code: as in `predictor_lib.restore`.

  Returns:
    The exit status: 0, or 1 where a checkpoint could not be evaluated or the
    training has stalled.
  """
  output = workdir / 'eval' / split
  if watch_seconds is None:
    steps = all_checkpoints(workdir)
  else:
    earlier = metric_writer.read(output)
    steps = new_checkpoints(
      workdir,
      last_seen=max((line['step'] for line in earlier), default=-1),
      timeout_seconds=watch_seconds,
    )
  try:
    failed = evaluate_steps(
      steps,
      workdir=workdir,
      data_dir=data_dir,
      split=split,
      batch_size=batch_size,
      bootstrap_samples=bootstrap_samples,
      allow_custom_code=allow_custom_code,
    )
  except StalledError as e:
    print(f'error: {e}', file=sys.stderr)
    return 1
  print(f'Metrics by step: {output / metric_writer.FILE_NAME}')
  return 1 if failed else 0


def all_checkpoints(workdir: epath.PathLike) -> Iterator[int]:
  """Yields the steps of the checkpoints that a workdir holds, ascending.

  Raises:
    InputError: there is none.
  """
  steps, _ = _look(workdir)
  if not steps:
    raise errors.InputError(
      f'{workdir} has no checkpoint to evaluate. Is it the --workdir of a'
      ' training run?'
    )
  yield from steps


def new_checkpoints(
  workdir: epath.PathLike,
  *,
  last_seen: int,
  timeout_seconds: float,
  sleep: Callable[[float], None] = time.sleep,
  clock: Callable[[], float] = time.monotonic,
) -> Iterator[int]:
  """Yields the steps of checkpoints as they appear, until the training's last.

  Args:
    workdir: of the run; it may not exist yet.
    last_seen: steps up to this one are passed over.
    timeout_seconds: longest time without a new checkpoint.
    sleep: waits for so many seconds.
    clock: gives the time in seconds.

  Yields:
    The steps, ascending.

  Raises:
    StalledError: no checkpoint appeared for too long.
  """
  last_news = clock()
  while True:
    steps, last_of_all = _look(workdir)
    for step in steps:
      if step > last_seen:
        yield step
        last_seen, last_news = step, clock()
    if last_of_all is not None and max(last_seen, *steps) >= last_of_all:
      return
    if clock() - last_news > timeout_seconds:
      raise StalledError(
        f'No new checkpoint in {workdir} for {timeout_seconds / 60:.0f}'
        f' minutes; the latest is {steps[-1] if steps else "none"},'
        f' the last will be {last_of_all or "known with the first"}. Has the'
        ' training stopped? The same command goes on from here.'
      )
    sleep(_POLL_SECONDS)


def _look(workdir: epath.PathLike) -> tuple[list[int], int | None]:
  """The steps there are, and the step at which the training will end."""
  with checkpointer_lib.Checkpointer(workdir, read_only=True) as checkpointer:
    steps = checkpointer.steps()
    for step in reversed(steps):
      try:
        return steps, int(checkpointer.read_meta(step)['num_train_steps'])
      except errors.DamageError:
        continue  # It is told when it is evaluated.
    return steps, None


def evaluate_steps(
  steps: Iterator[int],
  *,
  workdir: epath.Path,
  split: str,
  data_dir: str,
  batch_size: int,
  bootstrap_samples: int,
  allow_custom_code: bool = False,
) -> list[int]:
  """Evaluates checkpoints as they come, and writes their metrics by step.

  Each gets a folder WORKDIR/eval/SPLIT_STEP, as `summary.summarize` writes
  it; a line of metrics is added to those in WORKDIR/eval/SPLIT.

  Args:
    steps: of `all_checkpoints` or `new_checkpoints`.
    workdir: of the run.
    split: its name.
    data_dir: of the split; '' for that of the training.
    batch_size: posters a step.
    bootstrap_samples: resamples behind the intervals.
    allow_custom_code: as in `predictor_lib.restore`.

  Returns:
    The steps that could not be evaluated, since they are damaged or were
    deleted meanwhile.

  Raises:
    InputError: the data set does not fit.
  """
  predictor, dataset, writer, failed = None, None, None, []
  for step in steps:
    started = time.monotonic()
    try:
      predictor = predictor_lib.restore(
        workdir,
        step=str(step),
        earlier=predictor,
        allow_custom_code=allow_custom_code,
      )
    except errors.InputError as e:
      logging.error('Checkpoint %d is left out: %s', step, e)
      failed.append(step)
      continue
    if dataset is None:
      dataset = storage.open_dataset(data_dir or predictor.data_dir(workdir))
      output = workdir / 'eval' / split
      output.mkdir(parents=True, exist_ok=True)
      # Lines of this and later steps are of an earlier look at them.
      writer = metric_writer.MetricWriter(
        output, start_step=step - 1, tensorboard=True
      )
    result = summary.summarize(
      scored_lib.score_split(predictor, dataset, split, batch_size=batch_size),
      output=workdir / 'eval' / f'{split}_{step}',
      bootstrap_samples=bootstrap_samples,
    )
    values = _defined_values(result.report)
    writer.write(step, split, values)
    logging.info(
      '%s',
      progress.describe_metrics(
        step, split, values, seconds=time.monotonic() - started
      ),
    )
  if writer is not None:
    writer.close()
  return failed


def _defined_values(report: dict[str, Any]) -> dict[str, float]:
  """The loss and the metrics of a report that are defined."""
  values = {
    name: entry['value']
    for name, entry in report['metrics'].items()
    if entry['value'] is not None
  }
  return {**values, 'loss': report['loss']}
