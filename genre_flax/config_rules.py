"""The rules that a config must keep, checked whole before anything slow."""

from collections.abc import Callable, Sequence
import math
from typing import Any

import ml_collections

from genre_flax import config as config_lib
from genre_flax.models import convnext
from genre_flax.models import efficientnet_lite
from genre_flax.models import registry
from genre_flax.models import transformer
from genre_flax.models import vit
from genre_flax.pretrained import efficientnet_lite_weights
from genre_flax.pretrained import sources
from genre_flax.pretrained import timm_weights
from genre_flax.runtime import custom
from genre_flax.runtime import errors
from genre_flax.training import losses
from genre_flax.training import optimizer

ConfigDict = ml_collections.ConfigDict

# A key, whether a value is valid, and the rule in words.
_Rule = tuple[str, Callable[[Any], bool], str]


def _one_of(key: str, values: Sequence[str]) -> _Rule:
  names = ', '.join(repr(value) for value in values)
  return key, lambda v: v in values, f'one of {names}'


def _one_of_or_custom(key: str, values: Sequence[str]) -> _Rule:
  names = ', '.join(repr(value) for value in values)
  return (
    key,
    lambda v: v in values or custom.is_custom(v),
    f"one of {names}, or 'module:attribute' of your own",
  )


def _at_least(key: str, least: float) -> _Rule:
  return key, lambda v: least <= v < math.inf, f'at least {least}'


def _from_to(key: str, least: int, most: int) -> _Rule:
  return key, lambda v: least <= v <= most, f'from {least} to {most}'


def _above_0(key: str) -> _Rule:
  return key, lambda v: 0 < v < math.inf, 'above 0'


def _above_0_up_to_1(key: str) -> _Rule:
  return key, lambda v: 0 < v <= 1, 'above 0 and at most 1'


def _share(key: str, up_to: float | None = None) -> _Rule:
  if up_to is None:
    return key, lambda v: 0 <= v < 1, 'at least 0 and below 1'
  return key, lambda v: 0 <= v <= up_to, f'from 0 to {up_to}'


_RULES: tuple[_Rule, ...] = (
  ('seed', lambda v: 0 <= v < 2**31, 'from 0 to 2**31 - 1'),
  _at_least('dataset.synthetic_posters', 0),
  _one_of('dataset.cache', ('none', 'memory', 'disk', 'features')),
  _from_to('dataset.num_threads', 1, 1024),
  _from_to('dataset.prefetch_batches', 1, 1024),
  _from_to('image_size', 16, 8192),
  _from_to('image_height', 16, 8192),
  _from_to('image_width', 16, 8192),
  _above_0('pixel_scale'),
  _above_0_up_to_1('augment.crop_scale'),
  _share('augment.translation', up_to=0.5),
  _share('augment.brightness'),
  _share('augment.contrast'),
  _share('augment.horizontal_flip', up_to=1),
  _share('augment.saturation', up_to=1),
  _share('augment.random_erasing', up_to=1),
  _at_least('augment.mixup_alpha', 0),
  _one_of_or_custom('model.name', registry.MODELS),
  _one_of('model.dtype', registry.DTYPES),
  _one_of('model.convnext.size', convnext.SIZES),
  _one_of('model.convnext.version', (1, 2)),
  _above_0('model.convnext.layer_scale'),
  _share('model.convnext.dropout_rate'),
  _share('model.convnext.stochastic_depth_rate'),
  (
    'model.efficientnet_lite.variant',
    lambda v: 0 <= v < efficientnet_lite.NUM_VARIANTS,
    '0, 1 or 2',
  ),
  _one_of('model.efficientnet_lite.batch_norm', ('frozen', 'synchronized')),
  _share('model.efficientnet_lite.dropout_rate'),
  _share('model.efficientnet_lite.stochastic_depth_rate'),
  _share('model.poster_cnn.conv_dropout_rate'),
  _share('model.poster_cnn.dense_dropout_rate'),
  _share('model.resnet.dropout_rate'),
  _share('model.tiny.dropout_rate'),
  _one_of('model.vit.size', vit.SIZES),
  _from_to('model.vit.patch', 1, 256),
  _one_of('model.vit.pool', vit.POOLS),
  _from_to('model.vit.num_registers', 0, 64),
  _one_of('model.vit.gelu', transformer.GELUS),
  _at_least('model.vit.layer_scale', 0),
  _above_0('model.vit.norm_epsilon'),
  _share('model.vit.dropout_rate'),
  _share('model.vit.stochastic_depth_rate'),
  (
    'pretrained',
    lambda v: (
      isinstance(v, str)
      and (
        v in ('', *efficientnet_lite_weights.SOURCES) or sources.is_source(v)
      )
    ),
    f"'', {', '.join(map(repr, efficientnet_lite_weights.SOURCES))}, 'timm:NAME' or"
    " 'hf:OWNER/NAME' of a network on the Hugging Face hub, or the path of a"
    f' file of {" or ".join(sources.FILES)}',
  ),
  _one_of('init_from_parts', ('backbone', 'all')),
  _one_of_or_custom('loss.name', losses.LOSSES),
  _share('loss.label_smoothing'),
  _share('loss.class_balanced_beta'),
  _at_least('loss.focal_gamma', 0),
  _at_least('loss.asymmetric_gamma_positive', 0),
  _at_least('loss.asymmetric_gamma_negative', 0),
  _share('loss.asymmetric_margin'),
  _at_least('batch_size', 1),
  _at_least('accumulate_steps', 1),
  _above_0('num_epochs'),
  _at_least('num_train_steps', 1),
  _one_of_or_custom('optimizer.name', optimizer.OPTIMIZERS),
  _above_0('optimizer.learning_rate'),
  _one_of('optimizer.schedule', optimizer.SCHEDULES),
  _share('optimizer.final_learning_rate_factor', up_to=1),
  _at_least('optimizer.warmup_epochs', 0),
  _share('optimizer.beta1'),
  _share('optimizer.beta2'),
  _above_0('optimizer.epsilon'),
  _at_least('optimizer.weight_decay', 0),
  _above_0('optimizer.backbone_factor'),
  _above_0_up_to_1('optimizer.layer_decay'),
  _above_0('optimizer.clip_norm'),
  _share('ema_decay'),
  _at_least('eval_batch_size', 1),
  (
    'eval_crops',
    lambda v: 0 < len(v) <= 32 and all(0 < share <= 1 for share in v),
    'from one to 32 shares, each above 0 and at most 1, such as (1.0, 0.9)',
  ),
  _above_0('eval_every_epochs'),
  _at_least('checkpoint_every_steps', 1),
  _at_least('keep_best', 1),
  _at_least('log_every', 1),
  _at_least('bootstrap_samples', 0),
)


# Networks that give features, and classify them.
_WITH_FEATURES = ('convnext', 'efficientnet_lite', 'vit')
# The placeholders of configs/default.py.
_MAY_BE_UNSET = frozenset(
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


def validate(config: ConfigDict) -> None:
  """Checks every value against its range.

  Args:
    config: with every key of configs/default.py.

  Raises:
    InputError: a value is out of its range; all of them are named.
  """
  faults = _faulty_values(config)
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
  if not faults:  # Of values that are none, nothing follows.
    faults = _conflicts(config)
  if faults:
    raise errors.InputError('\n  '.join(['Invalid config:', *faults]))


def check_values(config: ConfigDict) -> None:
  """Checks the values that are there, of a run that may be of earlier times.

  Raises:
    InputError: a value is out of its range; all of them are named.
  """
  faults = _faulty_values(config, may_lack_keys=True)
  if faults:
    raise errors.InputError('\n  '.join(['Invalid config:', *faults]))


def _faulty_values(
  config: ConfigDict, *, may_lack_keys: bool = False
) -> list[str]:
  faults = []
  for key, is_valid, rule in _RULES:
    try:
      value = config_lib.get(config, key)
    except KeyError:
      if may_lack_keys:
        continue
      raise
    if value is None and key in _MAY_BE_UNSET:
      continue
    try:
      is_wrong = not is_valid(value)
    except TypeError:
      is_wrong = True
    if is_wrong:
      faults.append(f'config.{key}={value!r}: must be {rule}')
  return faults


def _conflicts(config: ConfigDict) -> list[str]:
  """Values that are fine alone and make no sense together."""
  faults = []
  name, variant = config.model.name, config.model.efficientnet_lite.variant
  if config.pretrained in efficientnet_lite_weights.SOURCES and (
    name != 'efficientnet_lite'
    or variant != efficientnet_lite_weights.SOURCES[config.pretrained]
  ):
    wanted = efficientnet_lite_weights.SOURCES[config.pretrained]
    faults.append(
      f'config.pretrained={config.pretrained!r} needs'
      " config.model.name='efficientnet_lite' and"
      f' config.model.efficientnet_lite.variant={wanted}; got {name!r} and'
      f' {variant}'
    )
  if sources.is_source(config.pretrained) and (
    name not in timm_weights.NETWORKS
  ):
    faults.append(
      f'config.pretrained={config.pretrained!r} needs config.model.name of'
      f' {" or ".join(map(repr, timm_weights.NETWORKS))}; got {name!r}'
    )
  if config.dataset.cache == 'features':
    if config.trainable != 'head/.*' or name not in _WITH_FEATURES:
      faults.append(
        "config.dataset.cache='features' needs config.trainable='head/.*' and"
        f' config.model.name of {" or ".join(map(repr, _WITH_FEATURES))}, whose'
        f' backbone then stays as it is; got {config.trainable!r} and {name!r}'
      )
    if config.augment.to_dict() != _NO_AUGMENTATION:
      faults.append(
        "config.dataset.cache='features' allows no augmentation: every poster"
        ' passes the backbone once. Set config.augment.crop_scale=1.0 and all'
        ' other keys of config.augment to 0.0'
      )
    if tuple(config.eval_crops) != (1.0,):
      faults.append(
        "config.dataset.cache='features' looks at every poster once; set"
        f' config.eval_crops=(1.0,), got {tuple(config.eval_crops)}'
      )
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


_NO_AUGMENTATION = {
  'crop_scale': 1.0,
  'shift': 0.0,
  'brightness': 0.0,
  'contrast': 0.0,
  'saturation': 0.0,
  'mirror': 0.0,
  'erase': 0.0,
  'mixup_alpha': 0.0,
}
