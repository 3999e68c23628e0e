r"""Writes the HTML report of a training run, or compares runs.

python -m genre_flax.report --workdir=WORKDIR
python -m genre_flax.report --workdir=WORKDIR --workdir=OTHER --output=FOLDER

Several runs are compared with the first on the same posters. Posters are read
from the dataset of the training; without it, the report shows the training
curves and the stored metrics.
"""

import os

from absl import flags
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import files
from genre_flax.runtime import platform

_WORKDIRS = flags.DEFINE_multi_string(
  'workdir',
  None,
  'Folder of a training run; several to compare runs.',
  required=True,
)
_SPLIT = flags.DEFINE_string(
  'split', 'test', 'Split to report on: train, validation or test.'
)
_STEP = flags.DEFINE_string(
  'step', 'best', 'Checkpoint to use: best, latest, or the number of a step.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir',
  None,
  'Dataset of the split, written by `genre_flax.prepare`; default: the dataset'
  ' of the training.',
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder for report.html; default: the first --workdir.'
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 64, 'Posters per step, over all devices.', lower_bound=1
)
_BOOTSTRAP_SAMPLES = flags.DEFINE_integer(
  'bootstrap_samples',
  1000,
  'Resamples for the 95 % intervals; 0 for no intervals.',
  lower_bound=0,
)
_ALLOW_CUSTOM_CODE = flags.DEFINE_bool(
  'allow_custom_code',
  False,
  'Allow a network that is not part of genre_flax, as in genre_flax.top3.',
)


def main(argv: list[str]) -> int:
  command_line.refuse_arguments(argv)
  platform.configure()

  # After the platform is set: these import jax.
  from genre_flax.ops.cpu import onednn
  from genre_flax.reports.html import report
  from genre_flax.reports.html import runs

  platform.use_compilation_cache(
    files.cache_dir() / 'compiled',
    on_cpu=not onednn.is_available(),
  )
  opened = [
    runs.open_run(
      epath.Path(os.path.expanduser(workdir)),
      _SPLIT.value,
      step=_STEP.value,
      data_dir=os.path.expanduser(_DATA_DIR.value or ''),
      batch_size=_BATCH_SIZE.value,
      bootstrap_samples=_BOOTSTRAP_SAMPLES.value,
      allow_custom_code=_ALLOW_CUSTOM_CODE.value,
    )
    for workdir in _WORKDIRS.value
  ]
  folder = os.path.expanduser(_OUTPUT.value or _WORKDIRS.value[0])
  path = report.write(
    opened,
    epath.Path(folder) / report.FILE_NAME,
    bootstrap_samples=_BOOTSTRAP_SAMPLES.value,
  )
  print(f'Report: {path}')
  return 0


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
