"""Who takes part in a benchmark, and on what terms."""

from collections.abc import Sequence
import dataclasses
import importlib.util

import ml_collections

from genre_flax.runtime import errors

OWN = 'genre_flax'
_INSTALL = "`pip install -e '.[bench]'`"
# What the peers do not do, so that all of them do the same: the plain network,
# trained by Adam, on posters as they are.
_TERMS = {
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
  'accumulate_steps': 1,
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


# Networks for which PyTorch has timm's.
OF_TIMM = ('convnext', 'vit')
# Those of which the peers, too, leave parts as they are.
_FREEZABLE = ('efficientnet_lite',)


@dataclasses.dataclass(frozen=True)
class Peer:
  """Another library.

  Attributes:
    packages: that must be installed.
    networks: that are written for it.
    module: of benchmarks.
    variants: the settings to try, for each measurement.
  """

  packages: tuple[str, ...]
  networks: tuple[str, ...]
  module: str
  variants: dict[str, tuple[str, ...]]


_TORCH_VARIANTS = ('float32', 'float32, channels_last')
# What the system gives to genre_flax, which asks for it, it may give to others.
HUGE_PAGES = 'huge pages'

PEERS = {
  'keras': Peer(
    packages=('keras', 'tensorflow'),
    networks=('poster_cnn',),
    module='keras_peer',
    variants={
      'step': ('float32',),
      'input': ('array recipe', 'tf.data', 'tf.data, antialias'),
      'epoch': ('array recipe', 'tf.data'),
    },
  ),
  'torch': Peer(
    packages=('torch',),
    networks=('poster_cnn', 'efficientnet_lite', *OF_TIMM),
    module='torch_peer',
    variants={
      'step': (
        *_TORCH_VARIANTS,
        f'float32, channels_last, {HUGE_PAGES}',
        'bfloat16, channels_last',
      ),
      'input': ('DataLoader',),
      'epoch': _TORCH_VARIANTS,
    },
  ),
}


def variants(
  contender: str, measurement: str, *, dtype: str, compile_torch: bool
) -> list[str]:
  """The settings of a contender that are measured.

  Args:
    contender: OWN or a key of PEERS.
    measurement: such as 'step'.
    dtype: config.model.dtype, which holds for OWN.
    compile_torch: whether to try torch.compile too.

  Returns:
    Their names; none where the contender has no such measurement.
  """
  if contender == OWN:
    return [dtype]
  names = list(PEERS[contender].variants.get(measurement, ()))
  if compile_torch and contender == 'torch' and measurement == 'step':
    names.append('float32, channels_last, compiled')
  return names


def module(contender: str) -> str:
  """The module that measures a contender."""
  name = 'own' if contender == OWN else PEERS[contender].module
  return f'benchmarks.{name}'


def choose(
  asked: Sequence[str] | None, *, network: str
) -> tuple[list[str], dict[str, str]]:
  """Finds the peers that can take part.

  Args:
    asked: their names; None: all that can.
    network: config.model.name.

  Returns:
    The peers, and for each that is left out the reason.

  Raises:
    InputError: one that was asked for cannot take part.
  """
  chosen, left_out = [], {}
  for name in PEERS if asked is None else asked:
    reason = _why_not(name, network)
    if reason is None:
      chosen.append(name)
    elif asked is not None:
      raise errors.InputError(f'--peers: {name} cannot take part: {reason}.')
    else:
      left_out[name] = reason
  return chosen, left_out


def _why_not(name: str, network: str) -> str | None:
  if name not in PEERS:
    return f'it is not one of {", ".join(PEERS)}'
  peer = PEERS[name]
  needed = (*peer.packages, *(['timm'] if network in OF_TIMM else ()))
  missing = [p for p in needed if importlib.util.find_spec(p) is None]
  if network not in peer.networks:
    return f'{network} is not written for it, only {", ".join(peer.networks)}'
  if missing:
    return f'not installed: {", ".join(missing)}; {_INSTALL} installs all peers'
  return None


def set_terms(config: ml_collections.ConfigDict) -> list[str]:
  """Turns off in a config what the peers do not do.

  Args:
    config: that is changed.

  Returns:
    The keys that had another value.
  """
  changed, terms = [], dict(_TERMS)
  if config.model.name not in _FREEZABLE:
    terms['trainable'] = '.*'
  for key, value in terms.items():
    *parents, name = key.split('.')
    part = config
    for parent in parents:
      part = part[parent]
    if part[name] != value:
      part[name] = value
      changed.append(key)
  return changed
