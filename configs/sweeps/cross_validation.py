"""Five-fold cross-validation on the training posters."""

from ml_collections import config_dict

from configs.sweeps import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.space = (
    {
      'key': 'dataset.fold',
      'values': tuple(f'{number}/5' for number in range(1, 6)),
    },
  )
  return config
