r"""Writes the HTML report of a training run, or compares runs.

python -m genre_flax.report --model=WORKDIR
python -m genre_flax.report --model=WORKDIR --model=OTHER --output=FOLDER

Several runs are compared with the first on the same posters. Posters are read
from the dataset of the training; without it, the report shows the training
curves and the stored metrics.
"""

import os

from absl import flags
from etils import epath

from genre_flax.runtime import command_line
from genre_flax.runtime import platform
from genre_flax.runtime import shared_flags

_MODELS = shared_flags.models('are compared.')
_SPLIT = flags.DEFINE_string(
  'split', 'test', 'Split to report on: train, validation or test.'
)
_STEP = shared_flags.step()
_DATA_DIR = shared_flags.data_dir()
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Folder for report.html; default: the first workdir.'
)
_BATCH_SIZE = shared_flags.batch_size()
_BOOTSTRAP_SAMPLES = shared_flags.bootstrap_samples()
_ALLOW_CUSTOM_CODE = shared_flags.allow_custom_code()


def main(argv: list[str]) -> int:
  command_line.refuse_arguments(argv)
  platform.configure()

  # After the platform is set: these import jax.
  from genre_flax.checkpoints import released
  from genre_flax.ops.cpu import onednn
  from genre_flax.reports.html import report
  from genre_flax.reports.html import runs

  platform.use_compilation_cache(on_cpu=not onednn.is_available())
  output = _OUTPUT.value or released.require_workdir(
    _MODELS.value[0], '--output'
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
    for workdir in _MODELS.value
  ]
  path = report.write(
    opened,
    epath.Path(os.path.expanduser(output)) / report.FILE_NAME,
    bootstrap_samples=_BOOTSTRAP_SAMPLES.value,
  )
  print(f'Report: {path}')
  return 0


if __name__ == '__main__':
  platform.restart_with_huge_pages()
  command_line.run(main)
