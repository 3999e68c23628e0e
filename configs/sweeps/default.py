"""Every key of a sweep file. The others in this folder start from this one.

On the command line a key is overridden with `--config.KEY=VALUE`.
"""

from ml_collections import config_dict


def get_config() -> config_dict.ConfigDict:
  """The defaults: a grid of which nothing is set yet."""
  config = config_dict.ConfigDict()

  # The training config that every trial starts from.
  config.base = 'configs/poster_cnn.py'
  # Flags of the training that hold for every trial, such as
  # '--config.num_epochs=5'. Those after -- on the command line come after them.
  config.flags = ()

  # What is searched: one dict for each key of the base config, in the order in
  # which they are drawn. 'key' is its path, such as 'optimizer.learning_rate'.
  # With 'values' one of them is taken; else a number from 'low' to 'high', on a
  # logarithmic scale where 'log' is True. With 'when', such as
  # {'optimizer.name': 'sgd'}, the key is drawn only where earlier ones have
  # these values, and is as in the base config elsewhere. With 'along', such as
  # {'image_width': (96, 128)}, other keys change with it, value by value.
  config.space = ()

  # A trial's score: the best value of a metric over the evaluations of a split
  # that its training wrote.
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
  # Trials in all, failed ones too. >= 1; unset: the size of the grid.
  config.num_trials = config_dict.placeholder(int)
  # Each trial is trained once with each; its score is the mean.
  config.seeds = (0,)

  # Stops trials that do worse than others at the same evaluation, by the runs
  # of the first seed: 'none', 'asha' (Li et al., 2020) or 'hyperband' (Li et
  # al., 2018).
  config.pruner = config_dict.ConfigDict()
  config.pruner.name = 'none'
  # Evaluations before a trial can be stopped. >= 1.
  config.pruner.min_evaluations = 1
  # Of the trials, one in so many goes on at each rung. >= 2.
  config.pruner.reduction_factor = 3

  return config
