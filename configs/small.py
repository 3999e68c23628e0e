"""A linear probe for 50 to 2,000 posters; seconds on a CPU after the features.

The backbone is frozen. The number of steps is fixed, since an epoch of a few
posters has few steps, and the weight decay is strong. The last checkpoint is
the only one that is validated: the best of several would be chosen by chance.
"""

from ml_collections import config_dict

from configs import linear_probe


def get_config() -> config_dict.ConfigDict:
  config = linear_probe.get_config()
  config.batch_size = 32
  config.num_train_steps = 1000
  config.eval_every_epochs = 1000.0
  config.optimizer.weight_decay = 20.0
  return config
