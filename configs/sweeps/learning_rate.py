"""Learning rate and schedule by TPE, with early stopping by ASHA."""

from typing import Any

from ml_collections import config_dict

from configs.sweeps import default


def suggest(trial) -> dict[str, Any]:
  schedule = trial.suggest_categorical('schedule', ['constant', 'cosine'])
  overrides = {
    'optimizer.learning_rate': trial.suggest_float(
      'learning_rate', 1e-4, 1e-2, log=True
    ),
    'optimizer.schedule': schedule,
  }
  if schedule == 'cosine':
    overrides['optimizer.warmup_epochs'] = trial.suggest_categorical(
      'warmup_epochs', [0.0, 1.0, 2.0]
    )
  return overrides


def get_config() -> config_dict.ConfigDict:
  config = default.get_config()
  config.sampler = 'tpe'
  config.num_trials = 20
  config.pruner.name = 'asha'
  config.pruner.min_evaluations = 2
  return config
