"""Fine-tuning of the end of an EfficientNet-Lite2, after a linear probe.

Set config.init_from to the workdir of configs/linear_probe.py. A head that is
trained before the backbone avoids distorted features (Kumar et al., 2022). All
blocks but those of the last two stages are frozen: a few thousand posters are
too few to train more, and a step is faster.
"""

from ml_collections import config_dict

from configs import linear_probe


def get_config() -> config_dict.ConfigDict:
  config = linear_probe.get_config()
  config.init_from_parts = 'all'
  config.dataset.cache = 'none'
  config.trainable = r'(backbone/(block_(1[5-9]|20)|top).*)|head.*'
  config.model.efficientnet_lite.dropout_rate = 0.5
  config.augment.crop_scale = 0.8
  config.augment.translation = 0.05
  config.augment.brightness = 0.2
  config.augment.contrast = 0.2
  config.augment.saturation = 0.2
  config.augment.random_erasing = 0.2
  config.batch_size = 32
  config.num_epochs = 4.0
  config.eval_every_epochs = 1.0
  config.optimizer.name = 'adamw'
  config.optimizer.learning_rate = 4e-4
  config.optimizer.backbone_factor = 0.5
  config.optimizer.weight_decay = 0.05
  config.optimizer.clip_norm = 1.0
  config.eval_crops = (1.0, 0.9, 0.8)
  return config
