"""Fine-tuning of a whole ConvNeXt-T with published weights.

No linear probe precedes it: the whole network starts at a small learning rate,
with a layer-wise decay of 0.8 (Liu et al., 2022, appendix A.2). The weights are
downloaded once.

The batch size of 32 fits a GPU with 12 GB. On 80 GB use batch_size=128 and
optimizer.learning_rate=4e-4, on v5e:4x4 batch_size=512 and 8e-4.
"""

from ml_collections import config_dict

from configs import vit_finetune


def get_config() -> config_dict.ConfigDict:
  config = vit_finetune.get_config()
  config.image_height = 384
  config.image_width = 256
  config.model.name = 'convnext'
  config.model.convnext.size = 'tiny'
  config.model.convnext.feature_norm = False
  config.model.convnext.stochastic_depth_rate = 0.2
  config.pretrained = 'timm:convnext_tiny.in12k_ft_in1k'
  config.optimizer.learning_rate = 2e-4
  config.optimizer.layer_decay = 0.8
  config.optimizer.warmup_epochs = 2.0
  return config
