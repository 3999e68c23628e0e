r"""Searches for the values of config keys that train the best network.

python -m launch.sweep --config=configs/sweeps/image_size.py \
  --sweep_dir=runs/image_size -- --config.dataset.data_dir=data

This program is a worker: it trains trials until none is left. Further workers,
here (--num_workers) or on other machines, run the same command, which also
continues an interrupted sweep. Flags after -- are those of all trainings.
"""

import os
import shlex
import sys
from typing import Any
import warnings

from absl import flags
from etils import epath
from ml_collections import config_flags

from genre_flax import config_files
from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch import check
from launch import processes as processes_lib

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Sweep file, such as configs/sweeps/image_size.py.'
)
_SWEEP_DIR = flags.DEFINE_string(
  'sweep_dir', None, 'Folder of the study and results, shared by all workers.'
)
_STORAGE = flags.DEFINE_string(
  'storage', None, 'URL of a database for the study; needed on cloud storage.'
)
_NUM_WORKERS = flags.DEFINE_integer(
  'num_workers', 1, 'Workers on this machine.', lower_bound=1
)
_GPUS_PER_WORKER = flags.DEFINE_integer(
  'gpus_per_worker', 0, 'GPUs of each worker here; 0: all share all GPUs.'
)
_HEARTBEAT_SECONDS = flags.DEFINE_integer(
  'heartbeat_seconds', 20, 'A third of the limit for a dead worker.', 1
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Check the sweep and print the first command.'
)
flags.mark_flags_as_required(['config', 'sweep_dir'])
flags.FLAGS['config'].parser.parse = lambda p: config_files.read(p).lock()


def read_sweep(training_flags: list[str]) -> Any:
  """The `sweep_file.Sweep` of --config; its trials are not checked.

  Raises:
    InputError: it is missing or invalid, or Optuna is not installed.
  """
  try:
    import optuna
  except ImportError:
    raise errors.InputError(
      "A sweep needs optuna: pip install -e '.[sweep]'"
    ) from None
  from launch.sweeps import sweep_file

  optuna.logging.set_verbosity(optuna.logging.WARNING)
  warnings.simplefilter('ignore', optuna.exceptions.ExperimentalWarning)
  if files.is_remote(_SWEEP_DIR.value) and not _STORAGE.value:
    raise errors.InputError(
      f'--sweep_dir={_SWEEP_DIR.value} cannot hold a journal; expected'
      ' --storage=URL of a database, such as postgresql+psycopg://HOST/NAME.'
    )
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  return sweep_file.read(config_files.find(path), _CONFIG.value, training_flags)


def main(argv: list[str]) -> int:
  """Runs the workers; returns the exit status."""
  sweep = read_sweep(argv[1:])
  from launch.sweeps import results
  from launch.sweeps import studies
  from launch.sweeps import worker

  folder = epath.Path(_SWEEP_DIR.value).expanduser()
  proposals = sweep.proposals()
  for note in check.check_trials(proposals, sweep_dir=str(folder)):
    print(f'Note: {note}')
  if _DRY_RUN.value:
    print(shlex.join(['python', '-m', 'genre_flax.main', *proposals[0]]))
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
    return _run_workers(argv[1:])
  status = worker.Worker(study, sweep, folder).run()
  best = results.write_all(study, sweep, folder)
  print(f'Results: {folder / results.TABLE}, plots and the best:\n{best}')
  return status


def _run_workers(training_flags: list[str]) -> int:
  """Runs workers as processes; returns the status of the first that failed."""
  command = [sys.executable, '-m', 'launch.sweep', *sys.argv[1:]]
  command += ['--num_workers=1', '--', *training_flags]
  count, processes = _GPUS_PER_WORKER.value, []
  processes_lib.handle_stop_signals(lambda number, _: sys.exit(128 + number))
  try:
    for number in range(_NUM_WORKERS.value):
      gpus = map(str, range(number * count, (number + 1) * count))
      own = {'CUDA_VISIBLE_DEVICES': ','.join(gpus)} if count else {}
      processes.append(processes_lib.start(command, env={**os.environ, **own}))
    statuses = [process.wait() for process in processes]
  finally:
    processes_lib.stop(processes)
  status = next(filter(None, statuses), 0)
  return status if status >= 0 else 128 - status  # As shells do.


if __name__ == '__main__':
  command_line.run(main, launches=True)
