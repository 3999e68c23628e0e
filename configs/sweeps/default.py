"""Every key of a sweep file; the other files in this folder change a few.

On the command line a key is overridden with `--config.KEY=VALUE`.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The defaults: a grid with an empty search space."""
  config = config_dict.ConfigDict()

  # The base training config of all trials.
  config.base = 'configs/poster_cnn.py'
  # Flags of all trainings, such as '--config.num_epochs=5'. Flags after -- on
  # the command line are appended.
  config.flags = ()

  # The search space: one dict per key of the base config, in sampling order.
  # 'key' is its path, such as 'optimizer.learning_rate'. 'values' lists its
  # values; otherwise it is a number from 'low' to 'high', on a logarithmic
  # scale with 'log'. With 'when', such as {'optimizer.name': 'sgd'}, the key is
  # sampled only where earlier keys have these values. With 'along', such as
  # {'image_width': (96, 128)}, other keys change with it, value by value.
  config.space = ()

  # The score of a trial: the best value of a metric over the evaluations of a
  # split during its training.
  config.objective = config_dict.ConfigDict()
  config.objective.metric = 'mean_average_precision'
  config.objective.split = 'validation'
  # 'maximize' or 'minimize'.
  config.objective.direction = 'maximize'

  # 'grid' (every combination of values), 'random' or 'tpe' (Bergstra et al.,
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
