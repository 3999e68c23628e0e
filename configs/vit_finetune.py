"""All of a ViT-B/16 of SigLIP trained on, after its linear probe.

Give the workdir of configs/vit_probe.py as config.init_from. Each layer learns
at 0.75 of the rate of the next one (Clark et al., 2020; Bao et al., 2022), so
that the first, which serve any picture, hardly change. Posters are not
mirrored: they have writing.

The batch of 32 is meant for a GPU of 12 GB. With one of 80 GB take
batch_size=128 and optimizer.learning_rate=3e-4, on v5e:4x4 batch_size=512 and
6e-4.
"""

from ml_collections import config_dict

from configs import finetune
from configs import vit_probe


def get_config() -> config_dict.ConfigDict:
  config = vit_probe.get_config()
  config.init_from_parts = 'all'
  config.dataset.cache = 'memory'
  config.trainable = '.*'
  config.model.dtype = 'bfloat16'
  config.model.vit.stochastic_depth_rate = 0.1
  config.augment = finetune.get_config().augment
  config.augment.mixup_alpha = 0.2
  config.batch_size = 32
  config.num_epochs = 10.0
  config.eval_every_epochs = 1.0
  config.optimizer.name = 'adamw'
  config.optimizer.learning_rate = 1e-4
  config.optimizer.layer_decay = 0.75
  config.optimizer.warmup_epochs = 1.0
  config.optimizer.weight_decay = 0.05
  config.optimizer.clip_norm = 1.0
  return config
