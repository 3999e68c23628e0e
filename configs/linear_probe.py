"""A linear probe on a frozen EfficientNet-Lite; minutes on a CPU."""

from ml_collections import config_dict

from configs import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.dataset.cache = 'features'
  config.image_height = 448
  config.image_width = 300
  config.pixel_mean = 127.0
  config.pixel_scale = 128.0
  config.model.name = 'efficientnet_lite'
  config.model.efficientnet_lite.variant = 2
  config.model.efficientnet_lite.dropout_rate = 0.0
  config.model.efficientnet_lite.feature_norm = True
  config.model.efficientnet_lite.stage_features = True
  config.pretrained = 'efficientnet_lite2'
  config.trainable = 'head/.*'
  config.augment.crop_scale = 1.0
  config.augment.translation = 0.0
  config.augment.brightness = 0.0
  config.augment.contrast = 0.0
  config.batch_size = 256
  config.eval_batch_size = 32
  config.num_epochs = 60.0
  config.eval_every_epochs = 5.0
  # Strong decay, as in L2-regularized logistic regression: there are many
  # features and few posters.
  config.optimizer.name = 'sgd'
  config.optimizer.learning_rate = 5e-3
  config.optimizer.weight_decay = 3.0
  config.ema_decay = 0.99
  return config
