"""A linear probe on a frozen SigLIP ViT-B/16; the weights are downloaded once.

SigLIP (Zhai et al., 2023) was trained on images of the web with their captions.
"""

from ml_collections import config_dict

from configs import linear_probe


def get_config() -> config_dict.ConfigDict:
  config = linear_probe.get_config()
  config.image_height = 336
  config.image_width = 224
  config.model.name = 'vit'
  config.model.vit.size = 'B'
  config.model.vit.pool = 'attention'
  config.model.vit.feature_norm = True
  # For the other backbones of configs/sweeps/backbone_by_image_size.py.
  config.model.convnext.feature_norm = True
  config.pretrained = 'timm:vit_base_patch16_siglip_224.webli'
  return config
