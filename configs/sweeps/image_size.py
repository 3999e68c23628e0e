"""Score, time and memory by image size."""

from ml_collections import config_dict

from configs.sweeps import default

GRID = {'image_size': (128, 192, 250, 320, 400)}


def get_config() -> config_dict.ConfigDict:
  return default.get_config()
