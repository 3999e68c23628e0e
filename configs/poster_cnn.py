"""The network and recipe of the original poster classifier."""

from ml_collections import config_dict

from configs import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.image_size = 250
  config.pixel_mean = 0.0
  config.pixel_scale = 255.0
  config.model.name = 'poster_cnn'
  config.head_bias_from_prior = False
  config.batch_size = 64
  config.num_epochs = 20.0
  config.optimizer.schedule = 'constant'
  config.optimizer.warmup_epochs = 0.0
  config.optimizer.weight_decay = 0.0
  # Keras's Adam.
  config.optimizer.epsilon = 1e-7
  config.augment.crop_scale = 1.0
  config.augment.translation = 0.0
  config.augment.brightness = 0.0
  config.augment.contrast = 0.0
  return config
