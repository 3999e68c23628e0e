"""A linear probe and the text on the posters; minutes on a CPU.

The dataset needs the text: `python -m genre_flax.prepare --read_text`.
"""

from ml_collections import config_dict

from configs import linear_probe


def get_config() -> config_dict.ConfigDict:
  config = linear_probe.get_config()
  config.model.use_text = True
  config.trainable = '(head|text)/.*'
  return config
