"""The libraries of a benchmark, their variants and the common configuration."""

from collections.abc import Sequence
import dataclasses
import importlib.util

import ml_collections

from genre_flax import config as config_lib
from genre_flax.runtime import errors

OWN = 'genre_flax'
# Networks that PyTorch takes from timm.
TIMM_NETWORKS = ('convnext', 'efficientnet_lite', 'vit')
# The network whose parameters the other libraries can freeze too.
FREEZABLE = 'efficientnet_lite'
# Marks a variant that runs with the memory pages that genre_flax requests.
HUGE_PAGES = 'huge pages'
_COMPILED = 'float32, channels_last, compiled'
# Features that only genre_flax has are turned off: all libraries train the
# plain network by Adam, on unmodified posters.
_COMMON_VALUES = {
  'augment.crop_scale': 1.0,
  'augment.translation': 0.0,
  'augment.brightness': 0.0,
  'augment.contrast': 0.0,
  'augment.saturation': 0.0,
  'augment.horizontal_flip': 0.0,
  'augment.random_erasing': 0.0,
  'augment.mixup_alpha': 0.0,
  'dataset.cache': 'none',
  'pretrained': '',
  'init_from': '',
  'micro_batch_size': None,
  'model.efficientnet_lite.stage_features': False,
  'model.efficientnet_lite.feature_norm': False,
  'ema_decay': 0.0,
  'loss.name': 'sigmoid_cross_entropy',
  'loss.label_smoothing': 0.0,
  'loss.class_balanced_beta': 0.0,
  'optimizer.name': 'adamw',
  'optimizer.weight_decay': 0.0,
  'optimizer.backbone_factor': 1.0,
  'optimizer.layer_decay': 1.0,
  'optimizer.clip_norm': None,
  'eval_crops': (1.0,),
  'num_epochs': 1.0,
  'num_train_steps': None,
  'eval_every_epochs': 1.0,
  'checkpoint_every_steps': None,
  'tensorboard': False,
}


@dataclasses.dataclass(frozen=True)
class Library:
  """A library to compare with.

  Attributes:
    packages: required packages.
    networks: networks that exist in it.
    variants: settings by measurement, in words.
  """

  packages: tuple[str, ...]
  networks: tuple[str, ...]
  variants: dict[str, tuple[str, ...]]


LIBRARIES = {
  'keras': Library(
    packages=('keras', 'tensorflow'),
    networks=('poster_cnn',),
    variants={
      'step': ('float32',),
      'input': ('tf.data', 'tf.data, antialias'),
      'epoch': ('arrays', 'tf.data'),
    },
  ),
  'torch': Library(
    packages=('torch', 'timm'),
    networks=('poster_cnn', *TIMM_NETWORKS),
    variants={
      'step': (
        'float32',
        'float32, channels_last',
        f'float32, channels_last, {HUGE_PAGES}',
        'bfloat16, channels_last',
      ),
      'input': ('DataLoader',),
      'epoch': ('float32', 'float32, channels_last'),
    },
  ),
}


def variants(
  library: str, measurement: str, *, dtype: str, compile_torch: bool
) -> list[str]:
  """The variants of a library to measure; empty without that measurement.

  Args:
    library: OWN or a key of LIBRARIES.
    measurement: such as 'step'.
    dtype: config.model.dtype, the variant of OWN.
    compile_torch: whether to measure torch.compile.
  """
  if library == OWN:
    return [dtype]
  names = list(LIBRARIES[library].variants.get(measurement, ()))
  if compile_torch and library == 'torch' and measurement == 'step':
    names.append(_COMPILED)
  return names


def choose(
  requested: Sequence[str] | None, *, network: str
) -> tuple[list[str], dict[str, str]]:
  """Returns the libraries to compare with, and reasons for the skipped ones.

  Args:
    requested: keys of LIBRARIES; None for all that are available.
    network: config.model.name.

  Raises:
    InputError: a requested library is unavailable.
  """
  chosen, skipped = [], {}
  for name in LIBRARIES if requested is None else requested:
    reason = _reason_to_skip(name, network)
    if reason is None:
      chosen.append(name)
    elif requested is not None:
      raise errors.InputError(f'--libraries: {name} is unavailable: {reason}.')
    else:
      skipped[name] = reason
  return chosen, skipped


def _reason_to_skip(name: str, network: str) -> str | None:
  if name not in LIBRARIES:
    return f'expected one of {", ".join(LIBRARIES)}'
  library = LIBRARIES[name]
  if network not in library.networks:
    return f'{network} is missing; it has {", ".join(library.networks)}'
  missing = [p for p in library.packages if importlib.util.find_spec(p) is None]
  if missing:
    return f"not installed: {', '.join(missing)}; pip install -e '.[bench]'"
  return None


def use_common_values(config: ml_collections.ConfigDict) -> list[str]:
  """Sets the values that all libraries share; returns the changed keys."""
  values = dict(_COMMON_VALUES)
  if config.model.name != FREEZABLE:
    values['trainable'] = '.*'
  changed = [k for k, v in values.items() if config_lib.get(config, k) != v]
  for key in changed:
    *parents, name = key.split('.')
    part = config_lib.get(config, '.'.join(parents)) if parents else config
    part[name] = values[key]
  return changed
