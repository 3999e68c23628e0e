"""The config to try first: synthetic posters, a tiny network, one minute."""

from ml_collections import config_dict

from configs import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.dataset.synthetic_posters = 1200
  config.dataset.cache = 'memory'
  config.image_height = 96
  config.image_width = 64
  config.model.name = 'tiny'
  config.batch_size = 32
  config.num_epochs = 16.0
  config.eval_every_epochs = 4.0
  config.optimizer.learning_rate = 3e-3
  config.ema_decay = 0.99
  return config
