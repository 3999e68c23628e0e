r"""Prints the top-3 predictions of posters, or evaluates a split.

python -m genre_flax.top3 poster.jpg folder_of_posters
python -m genre_flax.top3 --model=WORKDIR poster.jpg
python -m genre_flax.top3 --model=WORKDIR --split=test
python -m genre_flax.top3 --model=WORKDIR --split=validation --watch
python -m genre_flax.top3 --model=A --model=B poster.jpg

Without --model, a released model predicts. A split also needs the dataset of
the training, or another one with the same genres. Several models form an
ensemble that averages their calibrated scores.
"""

from collections.abc import Sequence
import functools
import os

from absl import flags
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import platform
from genre_flax.runtime import shared_flags

_MODELS = shared_flags.models('form an ensemble.')
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split to evaluate: train, validation or test.'
)
_DATA_DIR = shared_flags.data_dir()
_STEP = flags.DEFINE_string(
  'step',
  'best',
  'Checkpoint to use: best (by config.best_metric), latest, the number of a'
  ' step, or all (with --split).',
)
_WATCH = flags.DEFINE_bool(
  'watch',
  False,
  'Evaluate each new checkpoint of a running training on the split, until the'
  ' training ends.',
)
_WATCH_TIMEOUT_MINUTES = flags.DEFINE_float(
  'watch_timeout_minutes',
  60.0,
  'Time without a new checkpoint after which --watch fails.',
  lower_bound=0.0,
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'Folder for predictions.csv and contact_sheet.png, and for metrics.json of a'
  ' split. Default: WORKDIR/eval/SPLIT_STEP for a split, no files for images.',
)
_TOP = flags.DEFINE_integer(
  'top', 3, 'Genres per image in the printed lines.', lower_bound=1
)
_THRESHOLD = flags.DEFINE_float(
  'threshold', 0.0, 'Least score of a printed genre.', 0.0, 1.0
)
_JSON = flags.DEFINE_bool(
  'json', False, 'Print a JSON object per image: its file, genres and scores.'
)
_LIST_MODELS = flags.DEFINE_bool('list_models', False, 'List released models.')
_BATCH_SIZE = shared_flags.batch_size()
_BOOTSTRAP_SAMPLES = shared_flags.bootstrap_samples()
_EXPLAIN = flags.DEFINE_bool(
  'explain',
  False,
  'Write attribution maps into --output/maps; of a split, of some posters.',
)
_EXPLAIN_BY = flags.DEFINE_enum(
  'explain_by',
  None,
  ['grad_cam', 'occlusion'],
  'Attribution method; default: Grad-CAM if the network supports it.',
)
_EXTRA_COLUMNS = flags.DEFINE_list(
  'extra_columns',
  [],
  'Values of the extra columns of all images, for networks that take them, such'
  ' as year=1994,country=FR. Default: the mean, or an unknown category.',
)
_NO_TEXT = shared_flags.no_text()
_TEXT_READER = shared_flags.text_reader()
_ALLOW_CUSTOM_CODE = shared_flags.allow_custom_code()
_DISTRIBUTED = shared_flags.distributed()

# Up to so many images, each of which then takes 10 ms longer, compiling quickly
# saves time.
_NUM_FEW = 32


def main(argv: list[str]) -> int:
  paths = argv[1:]
  all_steps = _WATCH.value or _STEP.value == 'all'
  _check_task(paths)
  _check_all_steps(all_steps)
  _check_ensemble(all_steps)
  is_few = len(paths) <= _NUM_FEW and not any(map(os.path.isdir, paths))
  platform.configure(fast_compilation=bool(paths) and is_few)
  platform.initialize_distributed(detect=_DISTRIBUTED.value)

  # These import jax, after the platform is configured; others, which are slow
  # to import, are imported if needed.
  from genre_flax import api
  from genre_flax.checkpoints import released
  from genre_flax.ops.cpu import onednn

  if _LIST_MODELS.value:
    print(released.describe())
    return 0
  platform.use_compilation_cache(on_cpu=not onednn.is_available())
  models = [os.path.expanduser(model) for model in _MODELS.value]
  data_dir = os.path.expanduser(_DATA_DIR.value or '')
  if _SPLIT.value and not data_dir:
    released.require_workdir(models[0], '--data_dir')
  if all_steps:
    workdir = released.require_workdir(models[0], 'A workdir')
    return _evaluate_checkpoints(workdir, data_dir)
  predictor = api.load(
    *models,
    step=_STEP.value,
    extra_columns=_EXTRA_COLUMNS.value,
    # The text of a split is part of its dataset.
    use_text=not _NO_TEXT.value if _SPLIT.value or _NO_TEXT.value else None,
    text_reader=_TEXT_READER.value,
    allow_custom_code=_ALLOW_CUSTOM_CODE.value,
  ).predictor
  output = None
  if _OUTPUT.value:
    output = epath.Path(os.path.expanduser(_OUTPUT.value))
  if paths:
    from genre_flax.reports import image_report

    return image_report.predict(
      predictor,
      paths,
      output=output,
      batch_size=_BATCH_SIZE.value,
      explain=_EXPLAIN.value,
      explain_by=_EXPLAIN_BY.value,
      line_format=image_report.LineFormat(
        _TOP.value, _THRESHOLD.value, _JSON.value
      ),
    )
  from genre_flax.reports import split_report

  folder = output or released.require_workdir(models[0], '--output')
  split_report.evaluate(
    predictor,
    _SPLIT.value,
    data_dir=data_dir or predictor.data_dir(models[0]),
    output=output or folder / 'eval' / _folder_name(predictor.step),
    batch_size=_BATCH_SIZE.value,
    bootstrap_samples=_BOOTSTRAP_SAMPLES.value,
    explain=_EXPLAIN.value,
    explain_by=_EXPLAIN_BY.value,
  )
  return 0


def _folder_name(step: int) -> str:
  suffix = '_no_text' if _NO_TEXT.value else ''
  return f'{_SPLIT.value}_{step}{suffix}'


def _evaluate_checkpoints(workdir: epath.Path, data_dir: str) -> int:
  """Evaluates the split for --watch or --step=all; returns the exit status."""
  from genre_flax.inference import continuous_evaluation
  from genre_flax.reports import split_report

  skipped = continuous_evaluation.evaluate_checkpoints(
    workdir,
    _SPLIT.value,
    watch_seconds=60 * _WATCH_TIMEOUT_MINUTES.value if _WATCH.value else None,
    write_report=functools.partial(
      split_report.write, bootstrap_samples=_BOOTSTRAP_SAMPLES.value
    ),
    data_dir=data_dir,
    batch_size=_BATCH_SIZE.value,
    allow_custom_code=_ALLOW_CUSTOM_CODE.value,
  )
  return 1 if skipped else 0


def _check_task(paths: Sequence[str]) -> None:
  """Rejects flags that do not define one task."""
  if _LIST_MODELS.value:
    return
  if bool(paths) == bool(_SPLIT.value):
    raise errors.InputError(
      'Expected either image files and folders, to predict their genres, or'
      ' --split, to evaluate a split.'
    )
  if _DISTRIBUTED.value and paths:
    raise errors.InputError(
      '--distributed needs --split; image files are scored by one process.'
    )
  if _EXTRA_COLUMNS.value and _SPLIT.value:
    raise errors.InputError(
      '--extra_columns is for images; the posters of a split have values.'
    )
  if _SPLIT.value and (_JSON.value or _TOP.present or _THRESHOLD.present):
    raise errors.InputError('--json, --top and --threshold are for images.')
  if _EXPLAIN.value and paths and not _OUTPUT.value:
    raise errors.InputError('--explain writes images, so it needs --output.')


def _check_all_steps(all_steps: bool) -> None:
  """Rejects flags that --watch and --step=all do not support."""
  if not all_steps:
    return
  flag = '--watch' if _WATCH.value else '--step=all'
  if not _SPLIT.value:
    raise errors.InputError(f'{flag} needs --split, as --split=validation.')
  if _OUTPUT.value:
    raise errors.InputError(
      f'{flag} writes to WORKDIR/eval; remove --output={_OUTPUT.value}.'
    )
  if _EXPLAIN.value or _NO_TEXT.value:
    other = '--explain' if _EXPLAIN.value else '--no_text'
    raise errors.InputError(f'{flag} does not support {other}.')
  if _DISTRIBUTED.value:
    raise errors.InputError(f'{flag} does not support --distributed.')
  if _WATCH.value and _STEP.value not in ('best', 'all'):
    raise errors.InputError(
      f'--watch evaluates all new checkpoints; remove --step={_STEP.value}.'
    )


def _check_ensemble(all_steps: bool) -> None:
  """Rejects flags that ensembles do not support."""
  if len(_MODELS.value) == 1:
    return
  if all_steps or _EXPLAIN.value:
    flag = '--explain' if _EXPLAIN.value else '--watch and --step=all'
    raise errors.InputError(
      f'An ensemble does not support {flag}; expected one --model, got'
      f' {len(_MODELS.value)}.'
    )
  if _SPLIT.value and not _OUTPUT.value:
    raise errors.InputError(
      'The evaluation of an ensemble needs --output, since it belongs to no'
      ' single model.'
    )


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
