"""A grid of image sizes and learning rates."""

from ml_collections import config_dict

from configs.sweeps import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.space = (
    {'key': 'image_size', 'values': (96, 128, 192, 250)},
    {'key': 'optimizer.learning_rate', 'values': (5e-4, 2e-3)},
  )
  return config
