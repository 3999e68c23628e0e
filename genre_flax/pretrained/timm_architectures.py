"""What timm is told to build a network of ours."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from genre_flax.models import convnext
from genre_flax.models import vit
from genre_flax.runtime import errors

_VIT_SIZES = {'Ti': 'tiny', 'S': 'small', 'B': 'base', 'L': 'large'}
_POOLS = {'token': 'token', 'mean': 'avg', 'attention': 'map'}
_GELUS = {'exact': 'gelu', 'tanh': 'gelu_tanh', 'quick': 'quick_gelu'}
# By what LayerNorms add, which is no argument of timm's.
_VITS = {1e-6: 'vit_{size}_patch16_224', 1e-5: 'vit_base_patch16_clip_224'}


class Architecture(NamedTuple):
  """A network of timm's.

  Attributes:
    name: that `timm.create_model` takes.
    arguments: that it takes besides, which JSON can hold.
  """

  name: str
  arguments: dict[str, Any]


def describe(
  network: str, options: Mapping[str, Any], image_shape: tuple[int, int]
) -> Architecture:
  """The network of timm's that computes what ours does.

  Args:
    network: config.model.name.
    options: of it, `config.model.NETWORK`.
    image_shape: (height, width), in pixels.

  Raises:
    InputError: timm has no such network.
  """
  if network not in _DESCRIBE:
    raise errors.InputError(
      f'timm has no network {network!r}; it has'
      f' {", ".join(map(repr, _DESCRIBE))}.'
    )
  return _DESCRIBE[network](options, image_shape)


def _vit(options, image_shape):
  size, epsilon = vit.SIZES[options['size']], options['norm_epsilon']
  if epsilon not in _VITS:
    raise errors.InputError(
      f'timm has no ViT with config.model.vit.norm_epsilon={epsilon}; it has'
      f' {" and ".join(map(str, _VITS))}.'
    )
  return Architecture(
    _VITS[epsilon].format(size=_VIT_SIZES[options['size']]),
    {
      'img_size': list(image_shape),
      'patch_size': options['patch'],
      'embed_dim': size.width,
      'depth': size.depth,
      'num_heads': size.num_heads,
      'global_pool': _POOLS[options['pool']],
      'class_token': options['pool'] == 'token',
      'fc_norm': False,
      'reg_tokens': options['num_registers'],
      'no_embed_class': True,
      'pre_norm': options['pre_norm'],
      'init_values': options['layer_scale'] or None,
      'act_layer': _GELUS[options['gelu']],
    },
  )


def _convnext(options, image_shape):
  del image_shape  # Any.
  size = convnext.SIZES[options['size']]
  version = {1: '', 2: 'v2'}[options['version']]
  return Architecture(
    f'convnext{version}_{options["size"]}',
    {'depths': list(size.depths), 'dims': list(size.widths)},
  )


def _efficientnet_lite(options, image_shape):
  del image_shape  # Any.
  if options['stage_features']:
    raise errors.InputError(
      'timm has no EfficientNet-Lite with'
      ' config.model.efficientnet_lite.stage_features=True, whose head sees'
      ' every stage.'
    )
  return Architecture(f'tf_efficientnet_lite{options["variant"]}', {})


_DESCRIBE = {
  'convnext': _convnext,
  'efficientnet_lite': _efficientnet_lite,
  'vit': _vit,
}
