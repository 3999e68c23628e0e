"""Score, time and memory by image size."""

from ml_collections import config_dict

from configs.sweeps import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.space = ({'key': 'image_size', 'values': (128, 192, 250, 320, 400)},)
  return config
