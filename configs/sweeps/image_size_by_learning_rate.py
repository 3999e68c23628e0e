"""A grid of image sizes and learning rates."""

from ml_collections import config_dict

from configs.sweeps import default

GRID = {
  'image_size': (96, 128, 192, 250),
  'optimizer.learning_rate': (5e-4, 2e-3),
}


def get_config() -> config_dict.ConfigDict:
  return default.get_config()
