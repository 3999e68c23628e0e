r"""Searches the values of config keys that train the best network.

python -m launch.sweep --config=configs/sweeps/image_size.py \
  --sweep_dir=runs/image_size -- --config.dataset.data_dir=data

Every trial is a job of launch.run. The same command again goes on with a sweep
that was stopped: finished trials stay, running ones go on from their workdirs.
Flags after -- are those of the training, for every trial.

Exit status: 0 where a trial was finished, 1 where none was, 2 for an error of
the input, 69 where no machines can be had, 73 where another process runs the
sweep, 130 after a Ctrl-C.
"""

import hashlib
import pathlib
import re
import shlex
import signal
import sys

from absl import flags
from ml_collections import config_flags

from genre_flax.runtime import errors
from genre_flax.runtime import lock
from launch.runtime import command_line

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Sweep file, such as configs/sweeps/image_size.py.'
)
_SWEEP_DIR = flags.DEFINE_string(
  'sweep_dir',
  None,
  'Folder on this machine for the study, the table, the plots and the logs.',
)
_WORKDIR_ROOT = flags.DEFINE_string(
  'workdir_root',
  None,
  "Folder of the trials' workdirs, such as gs://bucket/sweep; default:"
  ' SWEEP_DIR/trials.',
)
_BACKEND = flags.DEFINE_string(
  'backend', 'local', 'Where trials run: a --backend of launch.run.'
)
_LAUNCH_FLAGS = flags.DEFINE_multi_string(
  'launch_flag',
  [],
  'A further flag of launch.run for every trial, such as --launch_flag=--spot.',
)
_PARALLEL = flags.DEFINE_integer(
  'parallel', 1, 'Trials at a time.', lower_bound=1
)
_STORAGE = flags.DEFINE_string(
  'storage',
  None,
  'Database URL for the study, as Optuna takes it; default: a journal file in'
  ' the sweep_dir.',
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'Check the sweep file, print the commands, run nothing.'
)


def main(extra_flags: list[str]) -> int:
  """Runs the sweep of the flags.

  Args:
    extra_flags: of the training.

  Returns:
    The exit status.

  Raises:
    UserError: of the flags, the sweep file, or the machines.
  """
  for flag, value in (
    ('--config', _CONFIG.value),
    ('--sweep_dir', _SWEEP_DIR.value),
  ):
    if not value:
      raise errors.InputError(
        f'{flag} is missing; a sweep needs --config=configs/sweeps/FILE.py'
        ' --sweep_dir=FOLDER'
      )
  stray = [flag for flag in extra_flags if not flag.startswith('--')]
  if stray:
    raise errors.InputError(
      f'Unexpected arguments: {stray}. Flags of the training go after --, as in'
      ' -- --config.num_epochs=5'
    )
  _import_optional()
  from launch.sweeps import sweep_file
  from launch.sweeps import trials

  try:
    sweep = sweep_file.read_sweep(_CONFIG.value)
  except OSError as e:  # Of a file that did not load; said at its first use.
    raise errors.InputError(f'--config cannot be read. {e}') from e
  sweep_dir = pathlib.Path(_SWEEP_DIR.value).expanduser()
  # Of its jobs: slices and pods allow no other letters, and sweeps in other
  # folders may be called the same.
  name = re.sub('[^a-z0-9]+', '-', f's-{sweep_dir.name}'.lower())[:18]
  digest = hashlib.sha256(str(sweep_dir.resolve()).encode()).hexdigest()[:6]

  def make_spec(chosen, number, seed):
    return trials.job_spec(
      sweep,
      chosen,
      number=number,
      seed=seed,
      sweep_name=f'{name.strip("-")}-{digest}',
      sweep_dir=sweep_dir,
      workdir_root=_WORKDIR_ROOT.value or str(sweep_dir / 'trials'),
      launcher=(
        *(sys.executable, '-m', 'launch.run'),
        f'--backend={_BACKEND.value}',
        f'--state_dir={sweep_dir / "jobs"}',
        # A trial that crashes is recorded; it is started again after a
        # preemption alone.
        '--max_crashes=0',
        *_LAUNCH_FLAGS.value,
      ),
      extra_flags=extra_flags,
    )

  if _DRY_RUN.value:
    return _print_plan(sweep, make_spec)
  sweep_dir.mkdir(parents=True, exist_ok=True)
  with lock.hold(
    sweep_dir / 'lock',
    f'Process {{pid}} runs the sweep in {sweep_dir} already.',
  ):
    return _search(sweep, make_spec, sweep_dir, extra_flags)


def _import_optional():
  try:
    import optuna  # noqa: F401
  except ImportError as e:
    raise errors.InputError(
      f"A sweep needs {e.name}: pip install -e '.[sweep]'"
    ) from None


def _print_plan(sweep, make_spec) -> int:
  """Prints the commands of all trials, or of those that are known before."""
  from launch.sweeps import search_space

  if sweep.sampler == 'grid':
    points = list(search_space.grid(sweep.space))[: sweep.num_trials]
  else:
    print(
      f'{sweep.num_trials} trials, drawn by {sweep.sampler}; the flags that'
      ' all of them have:'
    )
    points = [{}]
  for number, chosen in enumerate(points):
    for seed in sweep.seeds:
      print(shlex.join(make_spec(chosen, number, seed).argv))
  print('Dry run: nothing was run.')
  return 0


def _search(sweep, make_spec, sweep_dir, extra_flags) -> int:
  import optuna

  from launch.sweeps import controller as controller_lib
  from launch.sweeps import report
  from launch.sweeps import studies

  optuna.logging.set_verbosity(optuna.logging.WARNING)
  storage = _open_storage(sweep_dir)
  # A journal has one study, whatever its folder is called by now.
  names = [] if _STORAGE.value else optuna.get_all_study_names(storage)
  study = studies.open_study(
    sweep, name=next(iter(names), sweep_dir.name), storage=storage
  )
  table = report.Table(sweep)
  print(table.header())

  def show():
    rows = report.to_rows(study, sweep)
    report.write_csv(rows, sweep_dir / report.SWEEP_CSV)
    for line in table.changed_lines(rows):
      print(line, flush=True)

  show()
  controller = controller_lib.Controller(
    study,
    sweep,
    make_spec=make_spec,
    parallel=_PARALLEL.value,
    on_change=show,
  )
  for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
  try:
    controller.run()
  except KeyboardInterrupt:
    show()
    print('Stopped. The same command goes on from here.', file=sys.stderr)
    return 130
  return _finish(study, sweep, sweep_dir, extra_flags)


def _open_storage(sweep_dir):
  import optuna

  if _STORAGE.value:
    return optuna.storages.RDBStorage(_STORAGE.value)
  backend = optuna.storages.journal.JournalFileBackend(
    str(sweep_dir / 'journal.log')
  )
  return optuna.storages.JournalStorage(backend)


def _finish(study, sweep, sweep_dir, extra_flags) -> int:
  """Draws the plots, and prints what was best."""
  from launch.sweeps import report

  pictures = report.draw_plots(study, sweep, sweep_dir)
  best = report.best_flags(study, sweep, extra_flags)
  print(f'Table: {sweep_dir / report.SWEEP_CSV}')
  for path in pictures:
    print(f'Plot:  {path}')
  if best is None:
    print('error: No trial was finished.', file=sys.stderr)
    return 1
  command = report.write_best(best, sweep_dir / report.BEST_COMMAND)
  print(f'The best of {len(study.trials)} trials:\n  {command}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
