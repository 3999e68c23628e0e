"""Linear probes on published backbones at several image sizes."""

from ml_collections import config_dict

from configs.sweeps import default

_SIGLIP = 'timm:vit_base_patch16_siglip_224.webli'
_CONVNEXT = 'timm:convnext_tiny.in12k_ft_in1k'
_EFFICIENTNET = 'efficientnet_lite2'


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.base = 'configs/vit_probe.py'
  config.space = (
    {
      'key': 'pretrained',
      'values': (_SIGLIP, _CONVNEXT, _EFFICIENTNET),
      'along': {'model.name': ('vit', 'convnext', 'efficientnet_lite')},
    },
    {
      'key': 'image_height',
      'values': (240, 336, 480),
      'along': {'image_width': (160, 224, 320)},
    },
  )
  return config
