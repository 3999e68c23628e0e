r"""Searches for the values of config keys that train the best network.

python -m launch.sweep --config=configs/sweeps/image_size.py \
  --sweep_dir=runs/image_size -- --config.dataset.data_dir=data

This program is a worker: it trains trials until none is left. Further workers,
here (--num_workers) or on other machines, run the same command, which also
continues an interrupted sweep. Flags after -- are those of all trainings.
"""

import os
import shlex
import signal
import sys
import warnings

from absl import flags
from etils import epath
from ml_collections import config_flags

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import files

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Sweep file, such as configs/sweeps/image_size.py.'
)
_SWEEP_DIR = flags.DEFINE_string(
  'sweep_dir',
  None,
  'Folder of the study, the trials and the results, the same for all workers.'
  ' On cloud storage it needs --storage.',
)
_STORAGE = flags.DEFINE_string(
  'storage',
  None,
  'URL of a database for the study, such as postgresql://HOST/NAME; default: a'
  ' journal in the sweep_dir.',
)
_NUM_WORKERS = flags.DEFINE_integer(
  'num_workers', 1, 'Workers on this machine.', lower_bound=1
)
_GPUS_PER_WORKER = flags.DEFINE_integer(
  'gpus_per_worker', 0, 'GPUs of each worker here; 0: all share all GPUs.'
)
_HEARTBEAT_SECONDS = flags.DEFINE_integer(
  'heartbeat_seconds',
  20,
  'The trial of a worker without a heartbeat for three of these intervals is'
  ' queued again.',
  lower_bound=1,
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Check the sweep and print the first command.'
)


def main(argv: list[str]) -> int:
  """Runs the workers; returns the exit status."""
  training_flags = argv[1:]
  try:
    import optuna
  except ImportError:
    raise errors.InputError(
      "A sweep needs optuna: pip install -e '.[sweep]'"
    ) from None
  from launch.sweeps import results
  from launch.sweeps import studies
  from launch.sweeps import sweep_file
  from launch.sweeps import worker

  if not _CONFIG.value or not _SWEEP_DIR.value:
    raise errors.InputError(
      '--config and --sweep_dir are missing; expected'
      ' --config=configs/sweeps/FILE.py --sweep_dir=FOLDER'
    )
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
  folder = epath.Path(_SWEEP_DIR.value).expanduser()
  if files.is_remote(folder) and not _STORAGE.value:
    raise errors.InputError(
      f'--sweep_dir={folder} cannot hold a journal; expected --storage=URL of'
      ' a database.'
    )
  try:
    sweep = sweep_file.read(_CONFIG.value, training_flags)
  except OSError as e:  # Raised at the first use of a missing file.
    raise errors.InputError(f'--config cannot be read. {e}') from e
  if _DRY_RUN.value:
    words = sweep.flags
    if sweep.config['sampler'] == 'grid':
      first = optuna.trial.FixedTrial(sweep_file.grid(sweep.space)[0])
      words = sweep.suggest(first)
    print(shlex.join(['python', '-m', 'genre_flax.main', *words]))
    print(f'Dry run of {sweep.num_trials} trials: nothing was trained.')
    return 0
  folder.mkdir(parents=True, exist_ok=True)
  study = studies.open_study(
    sweep,
    folder,
    storage_url=_STORAGE.value,
    heartbeat_seconds=_HEARTBEAT_SECONDS.value,
  )
  if _NUM_WORKERS.value > 1:
    return _run_workers(training_flags)
  status = worker.Worker(
    study,
    sweep,
    folder=folder,
    on_change=lambda: results.write_table(study, sweep, folder),
  ).run()
  best = results.write_all(study, sweep, folder)
  print(
    f'Results: {folder / results.TABLE}, plots and the best command:\n{best}'
  )
  return status


def _run_workers(training_flags: list[str]) -> int:
  """Runs workers as processes; returns the highest exit status."""
  from launch.sweeps import training

  command = [sys.executable, '-m', 'launch.sweep', *sys.argv[1:]]
  command += ['--num_workers=1', '--', *training_flags]
  processes = []
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    for number in range(_NUM_WORKERS.value):
      count = _GPUS_PER_WORKER.value
      gpus = range(number * count, (number + 1) * count)
      own = {'CUDA_VISIBLE_DEVICES': ','.join(map(str, gpus))} if count else {}
      processes.append(training.start(command, env={**os.environ, **own}))
    return max(process.wait() for process in processes)
  finally:
    for process in processes:
      training.stop(process)


if __name__ == '__main__':
  command_line.run(main, launches=True)
