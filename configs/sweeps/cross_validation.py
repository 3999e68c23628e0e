"""Five-fold cross-validation on the training posters."""

from ml_collections import config_dict

from configs.sweeps import default

GRID = {'dataset.fold': [f'{number}/5' for number in range(1, 6)]}


def get_config() -> config_dict.ConfigDict:
  return default.get_config()
