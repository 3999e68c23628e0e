r"""Shows a training batch, the parameters and the cost of a training step.

python -m genre_flax.inspect --config=configs/quickstart.py --output=batch.png

Writes a picture of the augmented images as the network receives them.
"""

import tempfile

from absl import flags
from etils import epath

from genre_flax import config_files
from genre_flax.runtime import command_line
from genre_flax.runtime import platform

_CONFIG = config_files.define_flag()
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
  from genre_flax.attribution import map_images
  from genre_flax.models import params
  from genre_flax.reports import contact_sheet
  from genre_flax.training import inspection
  from genre_flax.training import setup as setup_lib

  with tempfile.TemporaryDirectory() as folder:  # For synthetic posters.
    dataset, setup = setup_lib.set_up(config, folder)
    found = inspection.inspect(config, dataset, setup, step=_STEP.value)
  parts = params.split(setup.variable_shapes['params'], config.trainable)
  for name, part in zip(('Trained', 'Frozen'), parts, strict=True):
    print(f'{name} parameters: {len(part)} arrays')
    for path, leaf in part.items():
      print(f'  {path}  {list(leaf.shape)}  {leaf.size:,}')
  print(f'Batch after {_STEP.value} updates:')
  for name, value in found.batch.items():
    print(f'  {name:6}  {value.dtype.name:7}  {list(value.shape)}')
  print(
    f'Step: {found.flops:.3g} FLOPs,'
    f' {found.flops / setup.sizes.global_batch_size:.3g} per poster'
  )
  posters = [
    map_images.Poster(film, image, None, None, labels)
    for film, image, labels in zip(
      found.films, found.images, found.labels, strict=True
    )
  ][:_NUM_DRAWN]
  path = epath.Path(_OUTPUT.value).expanduser()
  contact_sheet.write(
    path.parent, posters, genres=dataset.genres, file_name=path.name
  )
  print(f'Wrote {path}: {len(posters)} of {len(found.images)} posters')
  return 0


if __name__ == '__main__':
  command_line.run(main)
