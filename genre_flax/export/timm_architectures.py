"""Arguments with which timm builds the networks of this package."""

from collections.abc import Mapping
from typing import Any

from genre_flax.models import convnext
from genre_flax.models import vit
from genre_flax.runtime import errors

_VIT_SIZES = {'Ti': 'tiny', 'S': 'small', 'B': 'base', 'L': 'large'}
_POOLS = {'token': 'token', 'mean': 'avg', 'attention': 'map'}
_GELUS = {'exact': 'gelu', 'tanh': 'gelu_tanh', 'quick': 'quick_gelu'}
# By the epsilon of LayerNorms, which is not an argument in timm.
_VITS = {1e-6: 'vit_{size}_patch16_224', 1e-5: 'vit_base_patch16_clip_224'}


def describe(
  network: str, options: Mapping[str, Any], image_shape: tuple[int, int]
) -> tuple[str, dict[str, Any]]:
  """The network of timm that computes the same function.

  Returns:
    The name and the keyword arguments for `timm.create_model`; JSON values.

  Raises:
    InputError: timm has no such network.
  """
  match network:
    case 'vit':
      return _describe_vit(options, image_shape)
    case 'convnext':
      size = convnext.SIZES[options['size']]
      version = {1: '', 2: 'v2'}[options['version']]
      return f'convnext{version}_{options["size"]}', {
        'depths': list(size.depths),
        'dims': list(size.widths),
      }
    case 'efficientnet_lite' if not options['stage_features']:
      return f'tf_efficientnet_lite{options["variant"]}', {}
    case 'efficientnet_lite':
      raise errors.InputError(
        'timm has no EfficientNet-Lite with'
        ' config.model.efficientnet_lite.stage_features=True.'
      )
  raise errors.InputError(
    f'timm has no {network!r}; it has convnext, efficientnet_lite and vit.'
  )


def _describe_vit(
  options: Mapping[str, Any], image_shape: tuple[int, int]
) -> tuple[str, dict[str, Any]]:
  size, epsilon = vit.SIZES[options['size']], options['norm_epsilon']
  if epsilon not in _VITS:
    raise errors.InputError(
      f'timm has no ViT with config.model.vit.norm_epsilon={epsilon}; it has'
      f' {" and ".join(map(str, _VITS))}.'
    )
  return _VITS[epsilon].format(size=_VIT_SIZES[options['size']]), {
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
  }
