"""The original network at 400 x 400 pixels on a slice of a TPU pod."""

from ml_collections import config_dict

from configs import poster_cnn


def get_config() -> config_dict.ConfigDict:
  config = poster_cnn.get_config()
  config.image_size = 400
  config.model.dtype = 'bfloat16'
  config.batch_size = 1024
  config.num_epochs = 60.0
  config.optimizer.schedule = 'cosine'
  config.optimizer.learning_rate = 4e-3
  config.optimizer.warmup_epochs = 5.0
  config.optimizer.clip_norm = 1.0
  config.ema_decay = 0.99
  # A host's 256 posters of 480 kB in each of 64 threads, 8 GB.
  config.dataset.num_threads = 64
  config.dataset.prefetch_batches = 64
  config.eval_every_epochs = 5.0
  return config
