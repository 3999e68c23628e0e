"""Score by the share of the training posters, with three seeds."""

from ml_collections import config_dict

from configs.sweeps import default

GRID = {'dataset.train_share': (0.05, 0.1, 0.25, 0.5, 1.0)}


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.seeds = (0, 1, 2)
  return config
