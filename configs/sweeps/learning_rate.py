"""Learning rate and schedule by TPE, with early stopping by ASHA."""

from ml_collections import config_dict

from configs.sweeps import default


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.space = (
    {'key': 'optimizer.learning_rate', 'low': 1e-4, 'high': 1e-2, 'log': True},
    {'key': 'optimizer.schedule', 'values': ('constant', 'cosine')},
    {
      'key': 'optimizer.warmup_epochs',
      'values': (0.0, 1.0, 2.0),
      'when': {'optimizer.schedule': 'cosine'},
    },
  )
  config.sampler = 'tpe'
  config.num_trials = 20
  config.pruner.name = 'asha'
  config.pruner.min_evaluations = 2
  return config
