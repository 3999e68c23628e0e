"""Linear probes on published backbones at several image sizes."""

from ml_collections import config_dict

from configs.sweeps import default

GRID = {
  ('pretrained', 'model.name'): (
    ('timm:vit_base_patch16_siglip_224.webli', 'vit'),
    ('timm:convnext_tiny.in12k_ft_in1k', 'convnext'),
    ('efficientnet_lite2', 'efficientnet_lite'),
  ),
  ('image_height', 'image_width'): ((240, 160), (336, 224), (480, 320)),
}


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.base = 'configs/vit_probe.py'
  return config
