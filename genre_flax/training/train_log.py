"""What the training loop tells: lines, a progress bar, metrics by step."""

from collections.abc import Iterator, Mapping
import contextlib
import datetime
import math
import sys
import time
from typing import Any

from absl import logging
import jax
import numpy as np
import tqdm

from genre_flax import config as config_lib
from genre_flax.runtime import machine
from genre_flax.runtime import metric_writer
from genre_flax.runtime import parallel
from genre_flax.training import overview

# Added up over the steps of a line.
_NO_SUMS = {'loss': 0.0, 'count': 0.0}


class NonFiniteError(FloatingPointError):
  """A metric of a training step is NaN or infinite."""


class TrainLog:
  """Collects the metrics of the steps and reports them every `log_every`.

  The values stay on the devices until then, so that the loop does not wait.
  """

  def __init__(
    self,
    schedule: config_lib.Schedule,
    writer: metric_writer.MetricWriter,
    *,
    start_step: int,
    log_every: int,
    is_active: bool,
    sums: Mapping[str, float] | None = None,
  ):
    """Starts the clock.

    Args:
      schedule: of the run.
      writer: where the metrics go.
      start_step: updates done so far.
      log_every: steps between two lines.
      is_active: False to print nothing, on all hosts but one.
      sums: `sums` of the run that is gone on with, so that the next line is of
        all steps since the last one.
    """
    self._schedule = schedule
    self._writer = writer
    self._log_every = log_every
    self._is_active = is_active
    self._pending: list[tuple[int, dict[str, Any]]] = []
    self._last: dict[str, np.ndarray] = {}
    self._num_steps = 0
    self._sums = dict(sums or _NO_SUMS)
    self._waited = self._paused = 0.0
    self._started = time.monotonic()
    self._bar = tqdm.tqdm(
      total=schedule.num_train_steps,
      initial=start_step,
      desc='Training',
      unit=' steps',
      disable=not is_active or not sys.stderr.isatty(),
    )

  @contextlib.contextmanager
  def waiting_for_input(self) -> Iterator[None]:
    """Counts the time inside as spent on waiting for a batch."""
    started = time.monotonic()
    yield
    self._waited += time.monotonic() - started

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Leaves the time inside out of the rates."""
    started = time.monotonic()
    yield
    self._paused += time.monotonic() - started

  def add(self, step: int, values: dict[str, jax.Array]) -> None:
    """Takes the metrics of a step, and reports when it is time.

    Args:
      step: just done.
      values: scalars on the devices; 'loss' and 'count' are sums.

    Raises:
      NonFiniteError: see `check`.
    """
    self._pending.append((step, values))
    self._bar.update()
    if step % self._log_every == 0 or step == self._schedule.num_train_steps:
      self.check()
      self._report(step)

  def check(self) -> None:
    """Fetches the metrics of the steps so far; waits for the devices.

    Raises:
      NonFiniteError: one of them is not finite.
    """
    if not self._pending:
      return
    steps, values = zip(*self._pending, strict=True)
    self._pending.clear()
    for step, step_values in zip(steps, jax.device_get(values), strict=True):
      for name, value in step_values.items():
        if not np.isfinite(value):
          raise NonFiniteError(
            f'Step {step}: {name} is {float(value)}. Checkpoints of earlier'
            ' steps are kept. Lower config.optimizer.learning_rate, set'
            ' config.optimizer.clip_norm, or use'
            " config.model.dtype='float32'."
          )
      for name in _NO_SUMS:
        self._sums[name] += float(step_values[name])
      self._last = step_values
      self._num_steps += 1

  @property
  def sums(self) -> dict[str, float]:
    """Sums of 'loss' and 'count' since the last line, of checked steps."""
    return dict(self._sums)

  def _report(self, step):
    num_steps = self._num_steps
    seconds = time.monotonic() - self._started - self._paused
    rate = num_steps * self._schedule.global_batch_size / seconds
    remaining = self._schedule.num_train_steps - step
    report = {
      'loss': self._sums['loss'] / self._sums['count'],
      'learning_rate': float(self._last['learning_rate']),
      'gradient_norm': float(self._last['gradient_norm']),
      'images_per_second': rate,
      'input_wait_share': self._waited / seconds,
      'peak_memory_gb': machine.peak_memory_gb(),
    }
    device_memory = parallel.peak_device_memory_gb()
    if device_memory is not None:
      report['peak_device_memory_gb'] = device_memory
    self._writer.write(step, 'train', report)
    eta = math.ceil(remaining * seconds / num_steps)
    self._info(
      f'step {step}/{self._schedule.num_train_steps}'
      f' (epoch {step / self._schedule.steps_per_epoch:.2f})'
      f'  loss {report["loss"]:.4f}  lr {report["learning_rate"]:.2e}'
      f'  {rate:.1f} images/s  input wait {report["input_wait_share"]:.1%}'
      f'  ETA {datetime.timedelta(seconds=eta)}'
    )
    self._sums, self._num_steps = dict(_NO_SUMS), 0
    self._waited = self._paused = 0.0
    self._started = time.monotonic()

  def validation(
    self, step: int, split: str, results: dict[str, float]
  ) -> None:
    """Reports the metrics of a validation split."""
    self._writer.write(step, split, results)
    self._info(
      overview.describe_metrics(
        step, split, results, seconds=results['seconds']
      )
    )

  def _info(self, text: str) -> None:
    """Logs a line above the progress bar."""
    if self._is_active:
      self._bar.clear()
      logging.info('%s', text)
      self._bar.refresh()

  def close(self) -> None:
    """Removes the progress bar."""
    self._bar.close()
