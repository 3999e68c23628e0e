r"""Shows a training batch, the parameters and the cost of a training step.

python -m genre_flax.inspect --config=configs/quickstart.py --output=batch.png

Writes a picture of the augmented images as the network receives them.
"""

import os
import tempfile

from absl import flags
from ml_collections import config_flags

from genre_flax.runtime import command_line
from genre_flax.runtime import platform

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'File of the training configuration.', lock_config=True
)
_STEP = flags.DEFINE_integer(
  'step', 0, 'Updates done before the batch.', lower_bound=0
)
_OUTPUT = flags.DEFINE_string(
  'output', 'batch.png', 'File for the picture of the batch.'
)
_NUM_DRAWN = 64


def main(argv: list[str]) -> int:
  config = command_line.read_config(_CONFIG, argv)
  platform.configure(fast_compilation=True)

  # After the platform is set: these import jax.
  from genre_flax.reports import batch_sheet
  from genre_flax.training import inspection
  from genre_flax.training import setup as setup_lib

  with tempfile.TemporaryDirectory() as folder:  # For synthetic posters.
    dataset, setup = setup_lib.set_up(config, folder)
    found = inspection.inspect(config, dataset, setup, step=_STEP.value)
  print('Parameters:')
  for line in inspection.describe_parameters(
    setup.variable_shapes['params'], trainable=config.trainable
  ):
    print(f'  {line}')
  print(f'Batch after {_STEP.value} updates:')
  for name, value in found.batch.items():
    print(f'  {name:6}  {value.dtype.name:7}  {list(value.shape)}')
  print(
    f'Step: {found.flops:.3g} FLOPs,'
    f' {found.flops / setup.sizes.global_batch_size:.3g} per poster'
  )
  path = os.path.expanduser(_OUTPUT.value)
  batch_sheet.write(
    path,
    found.images[:_NUM_DRAWN],
    labels=found.labels,
    ids=found.ids,
    genres=dataset.genres,
  )
  drawn = min(_NUM_DRAWN, len(found.images))
  print(f'Wrote {path}: {drawn} of {len(found.images)} posters')
  return 0


if __name__ == '__main__':
  command_line.run(main)
