"""Log lines, progress bar and metrics by step of a training."""

import collections
from collections.abc import Callable, Iterator, Mapping
import contextlib
import datetime
import math
import sys
import time
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np
import tqdm

from genre_flax import config as config_lib
from genre_flax.datasets.posters import storage
from genre_flax.evaluation import metrics
from genre_flax.models import params as params_lib
from genre_flax.ops.cpu import onednn
from genre_flax.runtime import errors
from genre_flax.runtime import machine
from genre_flax.runtime import metric_writer
from genre_flax.runtime import parallel
from genre_flax.runtime import text
from genre_flax.training import train_state

# Values of a step that are not sums over examples.
_PER_STEP = ('learning_rate', 'gradient_norm')
_REMEDY = (
  'Lower config.optimizer.learning_rate, set config.optimizer.clip_norm, or use'
  " config.model.dtype='float32'."
)


class Progress:
  """Collects the metrics of steps, and reports them every `log_every` steps.

  Values stay on the devices until then, so that the loop does not wait.
  """

  def __init__(
    self,
    sizes: config_lib.Sizes,
    writer: metric_writer.MetricWriter,
    *,
    start_step: int,
    log_every: int,
    is_active: bool,
    sums: Mapping[str, float] | None = None,
    batch_examples: Callable[[int], list[tuple[int, str]]] | None = None,
  ):
    """Starts the clock.

    With the `sums` of the checkpoint of a resumed run, its next log line covers
    all steps since the last one. `batch_examples` maps updates done to the next
    batch, for errors.
    """
    self._sizes = sizes
    self._writer = writer
    self._log_every = log_every
    self._is_active = is_active
    self._pending: list[tuple[int, dict[str, Any]]] = []
    self._last: dict[str, np.ndarray] = {}
    self._num_steps = 0
    self._sums = collections.Counter(sums)
    self._batch_examples = batch_examples
    self._waited = self._paused = 0.0
    self._started = time.monotonic()
    self._bar = tqdm.tqdm(
      total=sizes.num_train_steps,
      initial=start_step,
      desc='Training',
      unit=' steps',
      disable=not is_active or not sys.stderr.isatty(),
    )

  @contextlib.contextmanager
  def waiting_for_input(self) -> Iterator[None]:
    """Counts the time of the block as waiting for input."""
    started = time.monotonic()
    yield
    self._waited += time.monotonic() - started

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Excludes the time of the block from rates."""
    started = time.monotonic()
    yield
    self._paused += time.monotonic() - started

  def add(self, step: int, values: dict[str, jax.Array]) -> None:
    """Adds the metrics of a step, on the devices, and reports when due.

    Raises:
      errors.DivergedError: see `check`.
    """
    self._pending.append((step, values))
    self._bar.update()
    if step % self._log_every == 0 or step == self._sizes.num_train_steps:
      self.check()
      self._report(step)

  def check(self) -> None:
    """Fetches the metrics of all steps so far, and checks that they are finite.

    Raises:
      errors.DivergedError: a metric is NaN or infinite.
    """
    if not self._pending:
      return
    steps, values = zip(*self._pending, strict=True)
    self._pending.clear()
    for step, step_values in zip(steps, jax.device_get(values), strict=True):
      self._check_finite(step, step_values)
      for name, value in step_values.items():
        if name not in _PER_STEP:
          self._sums[name] += float(value)
      self._last = step_values
      self._num_steps += 1

  def _check_finite(self, step, values):
    broken = {
      name: value
      for name, value in sorted(values.items(), key=lambda x: x[0] != 'loss')
      if not np.isfinite(value)
    }
    if not broken:
      return
    self._writer.write(step, 'train', broken)
    faults = [f'{name} is {float(value)}' for name, value in broken.items()]
    message = f'Step {step}: {", ".join(faults)}. {_REMEDY}'
    if self._batch_examples:
      named = [
        f'{index} ({text.printable(film)})'
        for index, film in self._batch_examples(step - 1)
      ]
      message += (
        '\nThe batch, by index in the training split and film:'
        f' {text.join_first(named)}. `python -m genre_flax.inspect'
        f' --step={step - 1}` with the same config draws it.'
      )
    raise errors.DivergedError(message)

  @property
  def sums(self) -> dict[str, float]:
    """Sums over examples since the last log line, of checked steps."""
    return dict(self._sums)

  def _report(self, step):
    num_steps = self._num_steps
    seconds = time.monotonic() - self._started - self._paused
    rate = num_steps * self._sizes.global_batch_size / seconds
    remaining = self._sizes.num_train_steps - step
    # The loss first, then the scalars of the objective.
    means = {
      name: self._sums[name] / self._sums['count']
      for name in sorted(self._sums, key=lambda name: name != 'loss')
      if name != 'count'
    }
    report = {
      **means,
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
    shown = '  '.join(
      f'{name} {mean:.4f}' for name, mean in list(means.items())[:4]
    )
    eta = math.ceil(remaining * seconds / num_steps)
    self._info(
      f'step {step}/{self._sizes.num_train_steps}'
      f' (epoch {step / self._sizes.steps_per_epoch:.2f})'
      f'  {shown}  lr {report["learning_rate"]:.2e}'
      f'  {rate:.1f} images/s  input wait {report["input_wait_share"]:.1%}'
      f'  ETA {datetime.timedelta(seconds=eta)}'
    )
    self._sums, self._num_steps = collections.Counter(), 0
    self._waited = self._paused = 0.0
    self._started = time.monotonic()

  def validation(
    self, step: int, split: str, results: dict[str, float], *, best_metric: str
  ) -> None:
    """Reports the metrics of a validation split.

    Raises:
      DivergedError: the loss is NaN or infinite.
    """
    self._writer.write(step, split, results)
    loss = results.get('loss', 0.0)
    if not math.isfinite(loss):
      raise errors.DivergedError(
        f'Step {step}: the loss of {split} is {loss}. {_REMEDY}'
      )
    self._info(describe_metrics(step, split, results, best_metric=best_metric))

  def upload(self) -> None:
    """Starts an upload of the metrics to cloud storage."""
    self._writer.upload()

  def _info(self, text: str) -> None:
    """Logs a line above the progress bar."""
    if self._is_active:
      self._bar.clear()
      logging.info('%s', text)
      self._bar.refresh()

  def close(self) -> None:
    """Removes the progress bar."""
    self._bar.close()


def describe_metrics(
  step: int, split: str, values: Mapping[str, float], *, best_metric: str
) -> str:
  """The loss and some metrics of a split, and its seconds, as one line."""
  loss = f'loss {values["loss"]:.4f}  ' if 'loss' in values else ''
  shown = metrics.describe(values, best_metric=best_metric)
  return f'step {step}  {split}: {loss}{shown}  ({values["seconds"]:.1f} s)'


def describe_run(
  config: ml_collections.ConfigDict,
  sizes: config_lib.Sizes,
  dataset: storage.PosterDataset,
  *,
  micro_batch_size: int,
) -> str:
  """Devices, splits, label prior, batch sizes and numbers of steps."""
  height, width = config_lib.image_shape(config)
  splits = ', '.join(
    f'{described["num_examples"]:,} {split}'
    for split, described in dataset.card['splits'].items()
  )
  num_train_examples = dataset.num_examples(config.dataset.train_split)
  by_share = np.argsort(-dataset.label_prior, kind='stable')
  prior = ', '.join(
    f'{dataset.genres[i]} {dataset.label_prior[i]:.1%}' for i in by_share
  )
  lines = [
    'The run:',
    f'  devices      {parallel.describe_devices()}',
    f'  dataset      {dataset.data_dir}: {splits}',
    f'  genres       {len(dataset.genres)}: {prior}',
    f'  input        {height} x {width} pixels',
    f'  batch        {sizes.global_batch_size} = {parallel.num_hosts()}'
    f' host(s) x {jax.local_device_count()} device(s) x'
    f' {sizes.per_device_batch_size}; micro-batches of {micro_batch_size}',
    f'  steps        {sizes.num_train_steps:,} ='
    f' {sizes.num_train_steps / sizes.steps_per_epoch:.2f} epochs x'
    f' {sizes.steps_per_epoch:.2f} steps ({num_train_examples:,}'
    f' posters / {sizes.global_batch_size}); warm-up'
    f' {sizes.num_warmup_steps}',
    f'  evaluation   every {sizes.eval_every_steps} steps, batches of'
    f' {sizes.global_eval_batch_size}',
  ]
  if jax.default_backend() == 'cpu':
    described = (
      'reference implementations'
      if config.model.reference_ops
      else onednn.describe(config.model.dtype)
    )
    lines.insert(2, f'  convolutions {described}')
  return '\n'.join(lines)


def describe_parameters(params: dict, *, trainable: str) -> str:
  """The modules of the parameters, one per line, with their sizes."""
  trained, _ = params_lib.split(params, trainable)
  sizes = collections.Counter()
  for path, value in params_lib.flatten(params, sep='/').items():
    sizes['/'.join(path.split('/')[:2])] += value.size
  width = max(map(len, sizes))
  return '\n'.join(
    [
      f'The network: {train_state.count_parameters(params):,} parameters,'
      f' {train_state.count_parameters(trained):,} of them trained',
      *(f'  {name:{width}}  {size:>10,}' for name, size in sizes.items()),
    ]
  )
