"""The quickstart, with the network of wide_net.py."""

from ml_collections import config_dict

from configs import quickstart


def get_config() -> config_dict.ConfigDict:
  config = quickstart.get_config()
  config.model.name = 'examples.wide_net:WideNet'
  config.model.options.width = 16
  return config
