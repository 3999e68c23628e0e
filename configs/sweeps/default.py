"""Every key of a sweep file; the other files in this folder change a few.

On the command line a key is overridden with `--config.KEY=VALUE`.

A sweep file also has a search space, which is one of

- GRID: values by key of the base config, such as 'optimizer.learning_rate'. A
  tuple of keys, which change together, has tuples of values:
  {('image_height', 'image_width'): ((240, 160), (336, 224))}.
- suggest(trial): returns the overrides of an Optuna trial by key. Parameters
  are sampled with trial.suggest_float, suggest_int and suggest_categorical,
  and may depend on those sampled before.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The defaults."""
  config = config_dict.ConfigDict()

  # The base training config of all trials.
  config.base = 'configs/poster_cnn.py'
  # Flags of all trainings, such as '--config.num_epochs=5'. Flags after -- on
  # the command line are appended.
  config.flags = ()

  # The score of a trial: the best value of a metric over the evaluations of a
  # split during its training.
  config.objective = config_dict.ConfigDict()
  config.objective.metric = 'mean_average_precision'
  config.objective.split = 'validation'
  # 'maximize' or 'minimize'.
  config.objective.direction = 'maximize'

  # 'grid' (every combination of GRID), 'random' or 'tpe' (Bergstra et al.,
  # 2011).
  config.sampler = 'grid'
  # Seed of the sampler.
  config.sampler_seed = 0
  # Number of trials, failed ones included. >= 1; unset: the size of the grid.
  config.num_trials = config_dict.placeholder(int)
  # Seeds; each trial is trained once per seed, and its score is the mean.
  config.seeds = (0,)

  # Pruner of trials with worse scores than others at the same evaluation, by
  # the runs of the first seed: 'none', 'asha' (Li et al., 2020) or 'hyperband'
  # (Li et al., 2018).
  config.pruner = config_dict.ConfigDict()
  config.pruner.name = 'none'
  # Evaluations before a trial can be pruned. >= 1.
  config.pruner.min_evaluations = 1
  # Reduction factor: one in so many trials is promoted at each rung. >= 2.
  config.pruner.reduction_factor = 3

  return config
