r"""Names the three likeliest genres of posters, or evaluates a split.

python -m genre_flax.top3 --workdir=WORKDIR poster.jpg folder_of_posters
python -m genre_flax.top3 --workdir=WORKDIR --split=test
python -m genre_flax.top3 --workdir=WORKDIR --split=validation --watch
python -m genre_flax.top3 --workdir=A --workdir=B poster.jpg

The workdir is all that it needs to name genres; a split also needs the data set
that the network was trained on, or another with the same genres. The scores of
several networks are averaged, once each is calibrated.
"""

from collections.abc import Sequence
import os

from absl import flags
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import files
from genre_flax.runtime import platform

_WORKDIRS = flags.DEFINE_multi_string(
  'workdir',
  None,
  'Folder of the training run; given again, of another whose calibrated scores'
  ' are averaged with those of the first.',
  required=True,
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Evaluate this split: train, validation or test.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Data set of the split, as `genre_flax.prepare` wrote it; default: the one'
  ' that the network was trained on.',
)
_STEP = flags.DEFINE_string(
  'step',
  'best',
  'Checkpoint to use: best (by validation mean average precision), latest, the'
  ' number of a step, or for a split all.',
)
_WATCH = flags.DEFINE_bool(
  'watch',
  False,
  'Evaluate each new checkpoint of a running training on the split as it'
  ' appears, and end when the training has.',
)
_WATCH_TIMEOUT_MINUTES = flags.DEFINE_float(
  'watch_timeout_minutes',
  60.0,
  'Give up where --watch finds no new checkpoint for so long.',
  lower_bound=0.0,
)
_OUTPUT = flags.DEFINE_string(
  'output',
  None,
  'Folder for predictions.csv, decisions.csv and contact_sheet.png, and for'
  ' metrics.json of a split. Default: for a split WORKDIR/eval/SPLIT_STEP, for'
  ' images none.',
)
_RESUME = flags.DEFINE_bool(
  'resume',
  False,
  'Go on with the images of a run that was stopped: those that have a row in'
  ' --output are not scored again.',
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 64, 'Posters a step, over all devices.', lower_bound=1
)
_BOOTSTRAP_SAMPLES = flags.DEFINE_integer(
  'bootstrap_samples',
  1000,
  'Resamples behind the 95 % intervals; 0 for no intervals.',
  lower_bound=0,
)
_EXPLAIN = flags.DEFINE_bool(
  'explain',
  False,
  'Write maps of where the network looked into --output/maps; of a split, of'
  ' some posters, and say how far such maps can be trusted.',
)
_EXPLAIN_BY = flags.DEFINE_enum(
  'explain_by',
  None,
  ['grad_cam', 'occlusion'],
  'How; default: Grad-CAM where the network allows it.',
)
_ALLOW_CUSTOM_CODE = flags.DEFINE_bool(
  'allow_custom_code',
  False,
  'Load a network that is not part of genre_flax, which the workdir names as'
  " 'module:attribute' and this machine has. That runs its code.",
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Take part in a multi-host run, as in genre_flax.main.'
)

# Images, of which each takes a hundredth of a second more.
_FEW = 32


def main(argv: list[str]) -> int:
  paths = argv[1:]
  _check_what(paths)
  of_many = _WATCH.value or _STEP.value == 'all'
  _check_many(of_many)
  _check_workdirs(of_many)
  platform.configure(fast_compilation=_are_few(paths))
  platform.initialize_distributed(detect=_DISTRIBUTED.value)

  # After the platform is set: these import jax.
  from genre_flax.ops.cpu import onednn

  platform.use_compilation_cache(
    files.cache_dir() / 'compiled',
    on_cpu=not onednn.is_available(),
  )
  workdirs = [epath.Path(os.path.expanduser(path)) for path in _WORKDIRS.value]
  data_dir = os.path.expanduser(_DATA_DIR.value or '')
  if of_many:
    from genre_flax.inference import continuous_evaluation

    return continuous_evaluation.evaluate_many(
      workdirs[0],
      _SPLIT.value,
      watch_seconds=60 * _WATCH_TIMEOUT_MINUTES.value if _WATCH.value else None,
      data_dir=data_dir,
      batch_size=_BATCH_SIZE.value,
      bootstrap_samples=_BOOTSTRAP_SAMPLES.value,
      allow_custom_code=_ALLOW_CUSTOM_CODE.value,
    )
  output = None
  if _OUTPUT.value:
    output = epath.Path(os.path.expanduser(_OUTPUT.value))
  predictor = _restore(workdirs)
  if paths:
    from genre_flax.inference import image_files

    return image_files.name_genres(
      predictor,
      paths,
      output=output,
      batch_size=_BATCH_SIZE.value,
      resume=_RESUME.value,
      explain=_EXPLAIN.value,
      explain_by=_EXPLAIN_BY.value,
    )
  from genre_flax.reports import summary

  summary.evaluate_and_print(
    predictor,
    _SPLIT.value,
    workdir=workdirs[0],
    data_dir=data_dir,
    output=output,
    batch_size=_BATCH_SIZE.value,
    bootstrap_samples=_BOOTSTRAP_SAMPLES.value,
    explain=_EXPLAIN.value,
    explain_by=_EXPLAIN_BY.value,
  )
  return 0


def _restore(workdirs):
  """The network of a workdir, or those of several as one."""
  from genre_flax.inference import ensemble
  from genre_flax.inference import predictor as predictor_lib

  return ensemble.combine(
    [
      predictor_lib.restore(
        path, step=_STEP.value, allow_custom_code=_ALLOW_CUSTOM_CODE.value
      )
      for path in workdirs
    ],
    origins=[str(path) for path in workdirs],
  )


def _are_few(paths):
  """Whether compiling for them takes longer than looking at them."""
  return 0 < len(paths) <= _FEW and not any(map(os.path.isdir, paths))


def _check_what(paths: Sequence[str]) -> None:
  """Refuses flags that do not say what to do, or ask for no files to write."""
  if bool(paths) == bool(_SPLIT.value):
    raise errors.InputError(
      'Give either image files and folders to name the genres of, or a split to'
      ' evaluate, as --split=test.'
    )
  if _RESUME.value and not (paths and _OUTPUT.value):
    raise errors.InputError(
      '--resume goes on with a table of images: it needs them and --output.'
    )
  if _DISTRIBUTED.value and paths:
    raise errors.InputError(
      '--distributed evaluates a split; image files are for one process.'
    )
  if _EXPLAIN.value and paths and not _OUTPUT.value:
    raise errors.InputError('--explain writes pictures: it needs --output.')


def _check_many(of_many: bool) -> None:
  """Refuses flags that make no sense with several checkpoints, or without."""
  if not of_many:
    return
  flag = '--watch' if _WATCH.value else '--step=all'
  if not _SPLIT.value:
    raise errors.InputError(f'{flag} needs a split, as --split=validation.')
  if _OUTPUT.value:
    raise errors.InputError(
      f'{flag} writes to WORKDIR/eval; leave out --output={_OUTPUT.value}.'
    )
  if _EXPLAIN.value:
    raise errors.InputError(f'{flag} explains nothing; leave out --explain.')
  if _DISTRIBUTED.value:
    raise errors.InputError(
      f'{flag} runs in one process; leave out --distributed.'
    )
  if _WATCH.value and _STEP.value not in ('best', 'all'):
    raise errors.InputError(
      f'--watch evaluates all new checkpoints; leave out --step={_STEP.value}.'
    )


def _check_workdirs(of_many: bool) -> None:
  """Refuses what several networks together do not do."""
  if len(_WORKDIRS.value) == 1:
    return
  if of_many or _EXPLAIN.value:
    flag = '--explain' if _EXPLAIN.value else '--watch and --step=all'
    raise errors.InputError(
      f'{flag} need one network: give a single --workdir, not'
      f' {len(_WORKDIRS.value)}.'
    )
  if _SPLIT.value and not _OUTPUT.value:
    raise errors.InputError(
      'The results of several networks belong to no --workdir; give them a'
      ' folder with --output.'
    )


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
