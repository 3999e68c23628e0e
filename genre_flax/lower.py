r"""Compiles the training step for a TPU slice, on a machine without a TPU.

python -m genre_flax.lower --config=configs/tpu_pod.py --topology=v5e:4x4

Prints the step's memory and cost as JSON; `launch.plan` predicts its time.
"""

import json

from absl import flags
import jax

from genre_flax import config_files
from genre_flax.runtime import command_line
from genre_flax.runtime import files

_CONFIG = config_files.define_flag()
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, 'Slice, such as v5e:4x4 or v5litepod-16.', required=True
)
_NUM_GENRES = flags.DEFINE_integer(
  'num_genres', 25, 'Number of genres of the dataset.', lower_bound=1
)
_HLO = flags.DEFINE_string(
  'hlo', None, 'File for the HLO text of the compiled step, if it fits.'
)


def main(argv: list[str]) -> int:
  config = command_line.read_config(_CONFIG, argv)
  # A TPU of this machine stays free for other processes.
  jax.config.update('jax_platforms', 'cpu')

  from genre_flax.training import tpu_compile

  facts, program = tpu_compile.compile_train_step(
    config, _TOPOLOGY.value, num_genres=_NUM_GENRES.value
  )
  if _HLO.value and program:
    files.write_atomic(_HLO.value, program)
  print(json.dumps(facts, indent=2))
  return 0


if __name__ == '__main__':
  command_line.run(main)
