"""EfficientNet-Lite0 from ImageNet weights, all of it trained."""

from ml_collections import config_dict

from configs import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.dataset.cache = 'memory'
  config.image_height = 240
  config.image_width = 160
  config.pixel_mean = 127.0
  config.pixel_scale = 128.0
  config.model.name = 'efficientnet_lite'
  config.model.efficientnet_lite.variant = 0
  config.model.efficientnet_lite.dropout_rate = 0.3
  config.pretrained = 'efficientnet_lite0'
  config.batch_size = 32
  config.num_epochs = 10.0
  config.optimizer.learning_rate = 2e-3
  config.optimizer.backbone_factor = 0.1
  config.optimizer.weight_decay = 0.05
  config.optimizer.clip_norm = 1.0
  config.ema_decay = 0.998
  config.eval_zooms = (1.0, 0.9, 0.8)
  return config
