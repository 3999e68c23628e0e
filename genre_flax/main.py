r"""Trains a network to predict the genres of a film from its poster.

python -m genre_flax.main --config=configs/poster_cnn.py --workdir=WORKDIR \
  --config.dataset.data_dir=DATA_DIR --config.image_size=250

The same command again goes on with a run that was stopped.
"""

import os

from absl import flags
from absl import logging
from ml_collections import config_flags

from genre_flax import command_line
from genre_flax import errors
from genre_flax import platform

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File of the training configuration.', lock_config=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder for checkpoints and metrics; a run found there is gone on with.',
  required=True,
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Take part in a multi-host run, which the cluster (TPU pod, GKE, Slurm) says'
  ' how to join. JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID'
  ' name the processes without this flag.',
)
_CACHE_DIR = flags.DEFINE_string(
  'compilation_cache_dir',
  str(platform.default_compilation_cache_dir()),
  'Folder that keeps compiled programs between runs; "" for none.',
)


def main(argv: list[str]) -> int:
  if len(argv) > 1:
    raise errors.InputError(
      f'Unexpected arguments: {argv[1:]}. Flags start with --, and overrides'
      ' are --config.KEY=VALUE.'
    )
  if _CONFIG.value is None:
    raise errors.InputError(
      '--config is missing; start with --config=configs/quickstart.py'
    )
  platform.configure(compilation_cache_dir=_CACHE_DIR.value)
  platform.initialize_distributed(detect=_DISTRIBUTED.value)

  from genre_flax import train  # After the platform is set: it imports jax.

  workdir = os.path.expanduser(_WORKDIR.value)
  outcome = train.train_and_evaluate(_CONFIG.value, workdir)
  logging.info('Done: %d steps.', outcome.step)
  return outcome.exit_status


if __name__ == '__main__':
  command_line.run(main)
