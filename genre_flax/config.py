"""What a config means: its rules, what follows from it, what may change."""

from collections.abc import Callable, Mapping
import dataclasses
import json
import math
from typing import Any

import ml_collections

from genre_flax import errors
from genre_flax import models
from genre_flax import optimizer

ConfigDict = ml_collections.ConfigDict

# Keys that do not change what a run computes: a resume may change them. All
# others must be the same as when the run was started.
_FREE_KEYS = (
  'dataset.data_dir',
  'dataset.cache',
  'dataset.num_threads',
  'dataset.prefetch_batches',
  'dataset.test_split',
  'eval_batch_size',
  'eval_every_epochs',
  'checkpoint_every_steps',
  'keep_best',
  'log_every',
  'tensorboard',
  'bootstrap_samples',
)
# Keys that a resume may change where the schedule does not depend on them.
_LENGTH_KEYS = ('num_epochs', 'num_train_steps')

_Rule = tuple[str, Callable[[Any], bool], str]
_RULES: tuple[_Rule, ...] = (
  ('seed', lambda v: 0 <= v < 2**31, 'from 0 to 2**31 - 1'),
  ('dataset.synthetic_posters', lambda v: v >= 0, 'at least 0'),
  ('dataset.cache', lambda v: v in ('none', 'memory'), "'none' or 'memory'"),
  ('dataset.num_threads', lambda v: v >= 1, 'at least 1'),
  ('dataset.prefetch_batches', lambda v: v >= 1, 'at least 1'),
  ('image_size', lambda v: v >= 16, 'at least 16 pixels'),
  ('image_height', lambda v: v >= 16, 'at least 16 pixels'),
  ('image_width', lambda v: v >= 16, 'at least 16 pixels'),
  ('pixel_scale', lambda v: v > 0, 'above 0'),
  ('augment.crop_scale', lambda v: 0 < v <= 1, 'above 0 and at most 1'),
  ('augment.shift', lambda v: 0 <= v <= 0.5, 'from 0 to 0.5'),
  ('augment.brightness', lambda v: 0 <= v < 1, 'at least 0 and below 1'),
  ('augment.contrast', lambda v: 0 <= v < 1, 'at least 0 and below 1'),
  ('augment.mirror', lambda v: 0 <= v <= 1, 'from 0 to 1'),
  (
    'model.name',
    lambda v: v in models.MODELS,
    f'one of {", ".join(models.MODELS)}',
  ),
  (
    'model.dtype',
    lambda v: v in models.DTYPES,
    f'one of {", ".join(models.DTYPES)}',
  ),
  ('batch_size', lambda v: v >= 1, 'at least 1'),
  ('accumulate_steps', lambda v: v >= 1, 'at least 1'),
  ('num_epochs', lambda v: 0 < v < math.inf, 'above 0'),
  ('num_train_steps', lambda v: v >= 1, 'at least 1'),
  (
    'optimizer.name',
    lambda v: v in optimizer.OPTIMIZERS,
    f'one of {", ".join(optimizer.OPTIMIZERS)}',
  ),
  ('optimizer.learning_rate', lambda v: 0 < v < math.inf, 'above 0'),
  (
    'optimizer.schedule',
    lambda v: v in optimizer.SCHEDULES,
    f'one of {", ".join(optimizer.SCHEDULES)}',
  ),
  (
    'optimizer.final_learning_rate_factor',
    lambda v: 0 <= v <= 1,
    'from 0 to 1',
  ),
  ('optimizer.warmup_epochs', lambda v: v >= 0, 'at least 0'),
  ('optimizer.beta1', lambda v: 0 <= v < 1, 'at least 0 and below 1'),
  ('optimizer.beta2', lambda v: 0 <= v < 1, 'at least 0 and below 1'),
  ('optimizer.epsilon', lambda v: v > 0, 'above 0'),
  ('optimizer.weight_decay', lambda v: v >= 0, 'at least 0'),
  ('optimizer.clip_norm', lambda v: v > 0, 'above 0'),
  ('ema_decay', lambda v: 0 <= v < 1, 'at least 0 and below 1'),
  ('eval_batch_size', lambda v: v >= 1, 'at least 1'),
  ('eval_every_epochs', lambda v: v > 0, 'above 0'),
  ('checkpoint_every_steps', lambda v: v >= 1, 'at least 1'),
  ('keep_best', lambda v: v >= 1, 'at least 1'),
  ('log_every', lambda v: v >= 1, 'at least 1'),
  ('bootstrap_samples', lambda v: v >= 0, 'at least 0'),
)


def validate(config: ConfigDict) -> None:
  """Checks every value against its range.

  Args:
    config: with every key of configs/default.py.

  Raises:
    InputError: a value is out of its range; all of them are named.
  """
  faults = []
  for key, is_valid, rule in _RULES:
    value = get(config, key)
    if value is not None and not is_valid(value):
      faults.append(f'config.{key}={value!r}: must be {rule}')
  if not config.dataset.data_dir and not config.dataset.synthetic_posters:
    faults.append(
      'config.dataset.data_dir is empty: give the folder that'
      ' `python -m genre_flax.prepare` wrote, or draw posters with'
      ' --config.dataset.synthetic_posters=600'
    )
  if config.dataset.data_dir and config.dataset.synthetic_posters:
    faults.append(
      f'config.dataset.data_dir={config.dataset.data_dir!r} and'
      f' config.dataset.synthetic_posters={config.dataset.synthetic_posters}'
      ' exclude each other: set one of them'
    )
  if faults:
    raise errors.InputError('\n  '.join(['Invalid config:', *faults]))


def get(config: ConfigDict, key: str) -> Any:
  """The value of a dotted key, such as 'optimizer.learning_rate'."""
  value = config
  for part in key.split('.'):
    value = value[part]
  return value


def image_shape(config: ConfigDict) -> tuple[int, int]:
  """(height, width) of the network's input, in pixels."""
  height, width = config.image_height, config.image_width
  return (
    config.image_size if height is None else height,
    config.image_size if width is None else width,
  )


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The arithmetic of a run; steps are updates of the parameters.

  Attributes:
    num_train_examples: posters of the training split.
    global_batch_size: posters a step, over all hosts.
    per_host_batch_size: posters a step on one host.
    per_device_batch_size: posters a step on one device.
    steps_per_epoch: not rounded: batches run on over the ends of epochs.
    num_train_steps: of the whole run.
    num_warmup_steps: of which.
    eval_every_steps: steps between evaluations.
    global_eval_batch_size: posters an evaluation step, over all hosts.
  """

  num_train_examples: int
  global_batch_size: int
  per_host_batch_size: int
  per_device_batch_size: int
  steps_per_epoch: float
  num_train_steps: int
  num_warmup_steps: int
  eval_every_steps: int
  global_eval_batch_size: int


def make_schedule(
  config: ConfigDict,
  *,
  num_train_examples: int,
  num_hosts: int,
  num_devices: int,
) -> Schedule:
  """Works out the batch sizes and numbers of steps.

  Args:
    config: validated.
    num_train_examples: posters of the training split.
    num_hosts: processes of the run.
    num_devices: of all hosts together.

  Returns:
    The schedule.

  Raises:
    InputError: the batch does not divide among the devices, or is larger than
      the training split.
  """
  batch_size = config.batch_size
  parts = num_devices * config.accumulate_steps
  if batch_size % parts:
    raise errors.InputError(
      f'config.batch_size={batch_size} does not divide into {num_devices}'
      f' device(s) x {config.accumulate_steps} accumulate_steps = {parts} equal'
      f' parts; the nearest that does is {max(1, round(batch_size / parts))}'
      f' x {parts} = {max(1, round(batch_size / parts)) * parts}.'
    )
  if batch_size > num_train_examples:
    raise errors.InputError(
      f'config.batch_size={batch_size} is more than the {num_train_examples}'
      ' posters of the training split; choose a smaller one.'
    )
  steps_per_epoch = num_train_examples / batch_size
  num_train_steps = config.num_train_steps
  if num_train_steps is None:
    num_train_steps = max(1, round(config.num_epochs * steps_per_epoch))
  eval_batch_size = config.eval_batch_size or batch_size
  # Evaluation pads its batches, so it may round its size up as well.
  eval_batch_size = math.ceil(eval_batch_size / num_devices) * num_devices
  return Schedule(
    num_train_examples=num_train_examples,
    global_batch_size=batch_size,
    per_host_batch_size=batch_size // num_hosts,
    per_device_batch_size=batch_size // num_devices,
    steps_per_epoch=steps_per_epoch,
    num_train_steps=num_train_steps,
    num_warmup_steps=min(
      num_train_steps, round(config.optimizer.warmup_epochs * steps_per_epoch)
    ),
    eval_every_steps=max(1, round(config.eval_every_epochs * steps_per_epoch)),
    global_eval_batch_size=eval_batch_size,
  )


def to_dict(config: ConfigDict) -> dict[str, Any]:
  """The resolved config as plain values that JSON can hold."""
  return json.loads(config.to_json_best_effort())


def flatten(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dicts as one, with dotted keys."""
  flat = {}
  for key, value in values.items():
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{prefix}{key}.'))
    else:
      flat[f'{prefix}{key}'] = value
  return flat


def check_resumable(saved: Mapping[str, Any], config: ConfigDict) -> None:
  """Refuses to go on with a run under a config that changes its meaning.

  Args:
    saved: `to_dict` of the config that the run was started with.
    config: of this start.

  Raises:
    InputError: keys differ that decide what the run computes.
  """
  free = set(_FREE_KEYS)
  if config.optimizer.schedule == 'constant':
    free.update(_LENGTH_KEYS)
  before, now = flatten(saved), flatten(to_dict(config))
  changed = [
    f'config.{key}: {before.get(key, "(not there)")!r} when the run was'
    f' started, {now.get(key, "(not there)")!r} now'
    for key in sorted(before.keys() | now.keys())
    if key not in free and before.get(key) != now.get(key)
  ]
  if changed:
    raise errors.InputError(
      '\n  '.join(['The workdir holds a run with another config:', *changed])
      + '\nTo go on with that run, give it the config it was started with. To'
      ' start another, choose another --workdir.'
    )
