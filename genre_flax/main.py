r"""Trains a network to predict the genres of a film from its poster.

python -m genre_flax.main --config=configs/poster_cnn.py --workdir=WORKDIR \
  --config.dataset.data_dir=DATA_DIR --config.image_size=250

The same command again goes on with a run that was stopped.
"""

import os

from absl import flags
from etils import epath
from ml_collections import config_flags

from genre_flax.runtime import command_line
from genre_flax.runtime import huge_pages
from genre_flax.runtime import platform

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
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Check the config and the data, say what the run is, stop.'
)
_CACHE_DIR = flags.DEFINE_string(
  'compilation_cache_dir',
  str(platform.default_cache_dir() / 'compiled'),
  'Folder that keeps compiled programs between runs; "" for none. Programs for'
  ' a CPU that convolves by oneDNN are not kept.',
)


def main(argv: list[str]) -> int:
  config = command_line.read_config(_CONFIG, argv)
  platform.configure()
  platform.initialize_distributed(detect=_DISTRIBUTED.value)

  # After the platform is set: these import jax.
  from genre_flax.ops.cpu import onednn
  from genre_flax.reports import after_training
  from genre_flax.runtime import compilation_cache
  from genre_flax.training import setup
  from genre_flax.training import train

  compilation_cache.keep_compiled_programs(
    _CACHE_DIR.value, on_cpu=not onednn.is_available()
  )
  workdir = os.path.expanduser(_WORKDIR.value)
  if _DRY_RUN.value:
    setup.set_up(config, workdir)
    print('Dry run: nothing was trained.')
    return 0
  outcome = train.train(config, workdir)
  if outcome.exit_status == 0 and config.dataset.test_split:
    after_training.evaluate_best(config, epath.Path(workdir))
  return outcome.exit_status


if __name__ == '__main__':
  huge_pages.restart_with_huge_pages()
  command_line.run(main)
