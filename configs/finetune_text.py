"""Fine-tuning of the end of an EfficientNet-Lite2, with the text on posters.

Set config.init_from to the workdir of configs/probe_text.py, whose text branch
is used unchanged: the scores of both branches are added.
"""

from ml_collections import config_dict

from configs import finetune


def get_config() -> config_dict.ConfigDict:
  config = finetune.get_config()
  config.model.use_text = True
  return config
