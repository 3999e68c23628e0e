"""Image shapes, batch sizes and numbers of steps of a config.

Configs are `ml_collections.ConfigDict`s with the keys of `configs/default.py`.
"""

from collections.abc import Iterable, Mapping
import contextlib
import dataclasses
import difflib
import functools
import json
import math
from typing import Any

import ml_collections

from configs import default
from genre_flax.runtime import custom
from genre_flax.runtime import errors

ConfigDict = ml_collections.ConfigDict


def get(config: ConfigDict, key: str) -> Any:
  """The value of a dotted key, such as 'optimizer.learning_rate'."""
  value = config
  for part in key.split('.'):
    value = value[part]
  return value


def to_dict(config: ConfigDict) -> dict[str, Any]:
  """The resolved config as plain values that JSON can hold."""
  return json.loads(config.to_json_best_effort())


def flatten(values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  """Nested dicts as one dict with dotted keys."""
  flat = {}
  for key, value in values.items():
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{prefix}{key}.'))
    else:
      flat[f'{prefix}{key}'] = value
  return flat


def default_values() -> dict[str, Any]:
  """The values of configs/default.py by dotted key, None if unset."""
  return flatten(default.get_config().to_dict())


def key_faults(
  keys: Iterable[str], expected: ConfigDict | None = None
) -> dict[str, str]:
  """Describes the keys that a config does not have, with the nearest ones.

  Args:
    keys: dotted, of a config or of overrides.
    expected: a config with all keys; None for configs/default.py.
  """
  known = flatten(expected.to_dict()) if expected else default_values()
  options = () if expected else tuple(custom.OPTIONS.values())
  faults = {}
  for key in dict.fromkeys(keys):
    inside = [other for other in known if other.startswith(f'{key}.')]
    # The names of options are those of custom code.
    if key in known or f'{key}.'.startswith(tuple(f'{o}.' for o in options)):
      continue
    if inside:
      near = f'{key}.name' if f'{key}.name' in inside else inside[0]
      faults[key] = f'config.{key}: a section; set a key such as config.{near}'
    else:
      near = max(known, key=functools.partial(_similarity, key))
      faults[key] = f'config.{key}: no such key; the nearest is config.{near}'
  return faults


def _similarity(key: str, other: str) -> float:
  name, theirs = key.rpartition('.')[2], other.rpartition('.')[2]
  initials = ''.join(word[:1] for word in theirs.split('_'))
  is_short = theirs.startswith(name) or name == initials
  return is_short + difflib.SequenceMatcher(None, key, other).ratio()


def from_dict(stored: Mapping[str, Any], *, strict: bool = False) -> ConfigDict:
  """The config of `to_dict`; keys that it does not have are the defaults.

  With `strict`, values of other types raise an error.
  """
  config = default.get_config()
  with contextlib.nullcontext() if strict else config.ignore_type():
    config.update(dict(stored))
  return config


def image_shape(config: ConfigDict) -> tuple[int, int]:
  """(height, width) of the network's input, in pixels."""
  height, width = config.image_height, config.image_width
  return (
    config.image_size if height is None else height,
    config.image_size if width is None else width,
  )


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """Preprocessing of a network's input images.

  Attributes:
    height: of the input, in pixels.
    width: of the input, in pixels.
    pixel_mean: subtracted from pixels in [0, 255].
    pixel_scale: divisor of the difference.
    eval_crops: shares of height and width, in (0, 1], that the central crops of
      an evaluation keep; logits are averaged over them.
  """

  height: int
  width: int
  pixel_mean: float
  pixel_scale: float
  eval_crops: tuple[float, ...] = (1.0,)

  @property
  def image_shape(self) -> tuple[int, int]:
    """(height, width) in pixels."""
    return self.height, self.width

  def normalize(self, images: Any) -> Any:
    """Maps images [B, H, W, 3] in [0, 255] to float32 network inputs."""
    return (images.astype('float32') - self.pixel_mean) / self.pixel_scale


def preprocessing(config: ConfigDict) -> Preprocessing:
  """The preprocessing of a config."""
  height, width = image_shape(config)
  return Preprocessing(
    height=height,
    width=width,
    pixel_mean=float(config.pixel_mean),
    pixel_scale=float(config.pixel_scale),
    eval_crops=tuple(config.eval_crops),
  )


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Batch sizes and numbers of steps; a step is an update of the parameters.

  Attributes:
    global_batch_size: posters per step, over all hosts.
    per_device_batch_size: posters per step on one device.
    steps_per_epoch: not rounded, since batches span the ends of epochs.
    num_train_steps: of the whole run.
    num_warmup_steps: of the learning rate's warm-up.
    eval_every_steps: steps between evaluations.
    global_eval_batch_size: posters per evaluation step, over all hosts.
  """

  global_batch_size: int
  per_device_batch_size: int
  steps_per_epoch: float
  num_train_steps: int
  num_warmup_steps: int
  eval_every_steps: int
  global_eval_batch_size: int

  def is_eval_step(self, step: int) -> bool:
    """Whether to evaluate after `step`: regularly, and at the last step."""
    remaining = self.num_train_steps - step
    is_due = step % self.eval_every_steps == 0
    # Epochs are not whole numbers of steps: the last two evaluations would
    # otherwise nearly coincide.
    return remaining == 0 or (is_due and 2 * remaining > self.eval_every_steps)


def compute_sizes(
  config: ConfigDict,
  *,
  num_train_examples: int,
  num_devices: int,
) -> Sizes:
  """Computes batch sizes and numbers of steps.

  Args:
    config: validated.
    num_train_examples: posters of the training split.
    num_devices: of all hosts together.

  Raises:
    InputError: the batch does not divide among the devices, or into pairs for
      mixup.
  """
  batch_size = global_batch_size(config, num_train_examples)
  micro_batch_size = config.micro_batch_size or 1
  unit = num_devices * micro_batch_size
  if batch_size % unit:
    is_lowered = batch_size < config.batch_size
    lowered = f', lowered to {batch_size},' if is_lowered else ''
    nearest = max(1, round(batch_size / unit)) * unit
    raise errors.InputError(
      f'config.batch_size={config.batch_size}{lowered} is not a multiple of'
      f' {num_devices}'
      f' device(s) x {micro_batch_size} = {unit} examples'
      ' (config.micro_batch_size); the nearest multiple is'
      f' {nearest}.'
    )
  part = config.micro_batch_size or batch_size // num_devices
  if config.augment.mixup_alpha > 0 and part % 2:
    raise errors.InputError(
      f'config.augment.mixup_alpha={config.augment.mixup_alpha} blends pairs,'
      f' and a device has {part} examples at once; choose an even number with'
      ' config.batch_size or config.micro_batch_size.'
    )
  steps_per_epoch = num_train_examples / batch_size
  num_train_steps = config.num_train_steps
  if num_train_steps is None:
    num_train_steps = max(1, round(config.num_epochs * steps_per_epoch))
  num_warmup_steps = round(config.optimizer.warmup_epochs * steps_per_epoch)
  if config.optimizer.schedule != 'constant':
    # A constant rate depends on the step alone, so that a run can be extended.
    num_warmup_steps = min(num_train_steps, num_warmup_steps)
  return Sizes(
    global_batch_size=batch_size,
    per_device_batch_size=batch_size // num_devices,
    steps_per_epoch=steps_per_epoch,
    num_train_steps=num_train_steps,
    num_warmup_steps=num_warmup_steps,
    eval_every_steps=max(1, round(config.eval_every_epochs * steps_per_epoch)),
    global_eval_batch_size=global_eval_batch_size(config, num_devices),
  )


def global_batch_size(config: ConfigDict, num_train_examples: int) -> int:
  """`config.batch_size`, or the largest power of two in a smaller split."""
  if config.batch_size <= num_train_examples:
    return config.batch_size
  # Not a multiple of the devices: a run must not depend on their number.
  return 1 << (num_train_examples.bit_length() - 1)


def global_eval_batch_size(config: ConfigDict, num_devices: int) -> int:
  """Posters per evaluation step: a multiple of the devices, with padding."""
  batch_size = config.eval_batch_size or config.batch_size
  return math.ceil(batch_size / num_devices) * num_devices
