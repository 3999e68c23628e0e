r"""Plans the training of a config on TPU slices: memory, and a bound on speed.

python -m launch.plan --config=configs/tpu_pod.py --topology=v5e:4x4 \
  --topology=v4-32 --config.image_size=400

The TPU compiler compiles the real training step, without a TPU or a dataset.
The memory is the compiler's; the bound on the speed is not a measurement.
"""

import functools
import json
import sys

from absl import flags

from genre_flax.runtime import command_line
from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch import job as job_lib
from launch import roofline

_CONFIG = flags.DEFINE_string(
  'config',
  None,
  'File of the training configuration; --config.KEY=VALUE overrides a key.',
  required=True,
)
_TOPOLOGY = flags.DEFINE_multi_string(
  'topology',
  None,
  'Slice, such as v5e:4x4 or v5litepod-16; may be repeated.',
  required=True,
)
_NUM_GENRES = flags.DEFINE_integer(
  'num_genres', 25, 'Labels of the dataset.', lower_bound=1
)
_SEARCH_BATCH = flags.DEFINE_bool(
  'search_batch',
  False,
  'Search the largest batch that fits, with about eight compilations.',
)
_OUTPUT = flags.DEFINE_string('output', None, 'File for the result, as JSON.')


def main(argv: list[str]) -> int:
  """Plans the slices of the flags, and returns the exit status."""
  overrides = argv[1:]
  for override in overrides:
    if not (override.startswith('--config.') and '=' in override):
      raise errors.InputError(
        f'Unexpected argument: {override!r}. Pass --help to see the flags;'
        ' overrides are --config.KEY=VALUE.'
      )
  plans = []
  for topology in _TOPOLOGY.value:
    compile_step = functools.partial(_compile_step, topology, overrides)
    _log(f'{topology}: compiling, which takes from seconds to minutes')
    facts = compile_step()
    plans.append(plan := roofline.make_plan(facts))
    if len(plans) == 1:
      print(
        f'{facts["model"]}, {facts["image_height"]} x {facts["image_width"]}'
        f' pixels, {facts["dtype"]}, {facts["num_genres"]} genres'
      )
    print(f'\n{roofline.describe(plan)}', flush=True)
    if _SEARCH_BATCH.value:
      plan['largest_batch'] = _search(compile_step, facts)
  if len(plans) > 1:
    print(f'\n{roofline.summarize(plans)}')
  print(f'\n{roofline.NOTE}')
  if _OUTPUT.value:
    document = {
      'config': _CONFIG.value,
      'overrides': overrides,
      'note': roofline.NOTE.replace('\n', ' '),
      'plans': plans,
    }
    files.write_atomic(_OUTPUT.value, f'{json.dumps(document, indent=2)}\n')
  return 0


def _search(compile_step, first):
  """Searches the largest batch, prints it, and returns its plan, or None."""

  def compile_batch(per_device):
    facts = compile_step(per_device * first['num_devices'])
    _log(
      f'{first["topology"]}: {per_device} images per device:'
      f' {roofline.describe_memory(facts)} (compiled in'
      f' {facts["compile_seconds"]:.0f} s)'
    )
    return facts

  # Mixup blends pairs of examples.
  multiple_of = first['micro_batch_size'] or 2
  largest = roofline.find_largest(compile_batch, first, multiple_of=multiple_of)
  if largest is None:
    print(f'  largest  not even {multiple_of} images per device fit')
    return None
  plan = roofline.make_plan(largest)
  print(
    f'  largest  {plan["per_device_batch_size"]} images per device fit, so'
    f' --config.batch_size={plan["global_batch_size"]}, to within an eighth:'
    f' {roofline.describe_memory(plan)}',
    flush=True,
  )
  return plan


def _compile_step(topology, overrides, batch_size=None):
  """Runs `genre_flax.lower`, and returns its facts.

  The TPU compiler reads its settings when it is loaded, so each compilation has
  a process of its own.
  """
  args = [
    *(f'--config={_CONFIG.value}', f'--topology={topology}'),
    f'--num_genres={_NUM_GENRES.value}',
    *overrides,
  ]
  if batch_size is not None:
    args.append(f'--config.batch_size={batch_size}')
  return json.loads(job_lib.run_module('genre_flax.lower', *args))


def _log(text: str) -> None:
  print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
  command_line.run(main, known_only=True)
