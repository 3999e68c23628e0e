r"""Trains a network to predict the genres of a film from its poster.

python -m genre_flax.main --config=configs/poster_cnn.py --workdir=WORKDIR \
  --config.dataset.data_dir=DATA_DIR --config.image_size=250

The same command resumes an interrupted run.
"""

import os

from absl import flags
from etils import epath

from genre_flax import config_files
from genre_flax.runtime import command_line
from genre_flax.runtime import files
from genre_flax.runtime import platform
from genre_flax.runtime import shared_flags
from genre_flax.runtime import watchdog

_CONFIG = config_files.define_flag()
_WORKDIR = shared_flags.workdir(
  'Folder for checkpoints and metrics; an existing run is resumed.'
)
_DISTRIBUTED = shared_flags.distributed()
_ALLOW_CHANGE = flags.DEFINE_list(
  'allow_change',
  [],
  'Config keys that may differ from those of the run in the workdir, such as'
  ' optimizer.learning_rate,num_epochs. The change is recorded.',
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run',
  False,
  'Check the config, the dataset and the workdir, and describe the run.',
)
_CACHE_DIR = flags.DEFINE_string(
  'compilation_cache_dir',
  str(files.cache_dir() / 'compiled'),
  'Folder of compiled programs, kept between runs; "" for none. Not used on a'
  ' CPU with oneDNN convolutions.',
)
_STALL_TIMEOUT_MINUTES = flags.DEFINE_float(
  'stall_timeout_minutes',
  30.0,
  'A training without a step for this long ends with status 75, so that a'
  ' launcher restarts it; 0 for no limit. Compilation is not counted.',
  lower_bound=0.0,
)
_PROFILE_STEPS = flags.DEFINE_list(
  'profile_steps',
  [],
  'First and last step to trace, such as 10,20; the trace is written to'
  ' WORKDIR/profile.',
)


def main(argv: list[str]) -> int:
  config = command_line.read_config(_CONFIG, argv)
  platform.configure()
  platform.initialize_distributed(detect=_DISTRIBUTED.value)

  # After the platform is set: these import jax.
  from genre_flax.ops.cpu import onednn
  from genre_flax.reports import split_report
  from genre_flax.runtime import profiler
  from genre_flax.training import restore
  from genre_flax.training import setup as setup_lib
  from genre_flax.training import train

  platform.use_compilation_cache(
    _CACHE_DIR.value, on_cpu=not onednn.is_available()
  )
  workdir = os.path.expanduser(_WORKDIR.value)
  if _DRY_RUN.value:
    dataset, setup = setup_lib.set_up(config, workdir)
    setup_lib.check_train_step(config, setup, dataset=dataset)
    print(
      'Dry run: nothing was trained.',
      restore.describe_start(
        config, dataset, setup, workdir, allow_change=_ALLOW_CHANGE.value
      ),
    )
    return 0
  profile_steps = profiler.parse_steps(_PROFILE_STEPS.value)
  with watchdog.watch(60 * _STALL_TIMEOUT_MINUTES.value):
    with profiler.trace_steps(f'{workdir}/profile', profile_steps):
      outcome = train.train(config, workdir, allow_change=_ALLOW_CHANGE.value)
    if outcome.exit_status == 0 and config.dataset.test_split:
      split_report.evaluate_best(
        config, epath.Path(workdir), again=outcome.num_trained > 0
      )
  return outcome.exit_status


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
