"""Fine-tuning of a whole SigLIP ViT-B/16, after its linear probe.

Set config.init_from to the workdir of configs/vit_probe.py. The layer-wise
decay of 0.75 (Clark et al., 2020; Bao et al., 2022) keeps the first, generic
layers nearly constant. Posters are not flipped, since they have text.

The batch size of 32 fits a GPU with 12 GB. On 80 GB use batch_size=128 and
optimizer.learning_rate=3e-4, on v5e:4x4 batch_size=512 and 6e-4.
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
