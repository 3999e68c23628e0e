r"""Says what a TPU slice would do with a config, before it is rented.

python -m launch.plan --config=configs/tpu_pod.py --topology=v5e:4x4 \
  --topology=v4:2x2x4 --config.image_size=400

The real training step is compiled by the TPU compiler, which needs no TPU and
no data set. What comes out is the memory that the step needs, and a bound on
its speed, which is no measurement.
"""

import functools
import json
import subprocess
import sys

from absl import flags

from genre_flax.runtime import errors
from genre_flax.runtime import files
from launch.plans import batch_search
from launch.plans import slice_plan
from launch.runtime import command_line

_CONFIG = flags.DEFINE_string(
  'config',
  None,
  'File of the training configuration; --config.KEY=VALUE overrides a key.',
)
_TOPOLOGY = flags.DEFINE_multi_string(
  'topology', [], 'Slice, such as v5e:4x4. Give the flag again for others.'
)
_NUM_GENRES = flags.DEFINE_integer(
  'num_genres', 25, 'Labels of the data set.', lower_bound=1
)
_SEARCH_BATCH = flags.DEFINE_bool(
  'search_batch',
  False,
  'Search the largest batch that fits; that is about eight compilations.',
)
_OUTPUT = flags.DEFINE_string('output', None, 'File for the result, as JSON.')


def main(overrides: list[str]) -> int:
  """Plans for the flags.

  Args:
    overrides: of the config, --config.KEY=VALUE.

  Returns:
    The exit status.

  Raises:
    UserError: of the flags, the config, or a slice.
  """
  _check_arguments(overrides)
  plans = []
  for topology in _TOPOLOGY.value:
    compile_step = functools.partial(_compile_step, topology, overrides)
    _say(f'{topology}: compiling; that takes from seconds to minutes')
    facts = compile_step()
    plans.append(plan := slice_plan.make_plan(facts))
    if len(plans) == 1:
      print(slice_plan.describe_step(facts))
    print(f'\n{slice_plan.describe(plan)}', flush=True)
    if _SEARCH_BATCH.value:
      plan['largest_batch'] = _search(compile_step, facts)
  if len(plans) > 1:
    print(f'\n{slice_plan.summarize(plans)}')
  print(f'\n{slice_plan.NOTE}')
  if _OUTPUT.value:
    document = {
      'config': _CONFIG.value,
      'overrides': overrides,
      'note': slice_plan.NOTE.replace('\n', ' '),
      'plans': plans,
    }
    files.write_atomic(_OUTPUT.value, f'{json.dumps(document, indent=2)}\n')
  return 0


def _search(compile_step, first):
  """Searches the largest batch; says so; returns its plan, or None."""

  def compile_batch(per_device):
    facts = compile_step(per_device * first['num_devices'])
    _say(
      f'{first["topology"]}: {per_device} images a device:'
      f' {slice_plan.describe_memory(facts)} (compiled in'
      f' {facts["compile_seconds"]:.0f} s)'
    )
    return facts

  # Mixup blends pairs of examples.
  multiple_of = first['micro_batch_size'] or 2
  largest = batch_search.find_largest(
    compile_batch, first, multiple_of=multiple_of
  )
  if largest is None:
    print(f'  largest  not even {multiple_of} images a device fit')
    return None
  plan = slice_plan.make_plan(largest)
  print(
    f'  largest  {plan["per_device_batch_size"]} images a device fit, so'
    f' --config.batch_size={plan["global_batch_size"]}, to within an eighth:'
    f' {slice_plan.describe_memory(plan)}',
    flush=True,
  )
  return plan


def _compile_step(topology, overrides, batch_size=None):
  """Runs `genre_flax.lower`; returns what it says.

  The TPU compiler is loaded once a process, and reads its settings then: each
  compilation has a process of its own.
  """
  command = [
    sys.executable,
    '-m',
    'genre_flax.lower',
    f'--config={_CONFIG.value}',
    f'--topology={topology}',
    f'--num_genres={_NUM_GENRES.value}',
    *overrides,
  ]
  if batch_size is not None:
    command.append(f'--config.batch_size={batch_size}')
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    _, marker, message = done.stderr.rpartition('error: ')
    if done.returncode == 2 and marker:
      raise errors.InputError(message.strip())
    raise RuntimeError(
      f'{" ".join(command)} ended with status {done.returncode}:\n{done.stderr}'
    )
  return json.loads(done.stdout)


def _check_arguments(overrides):
  """Raises InputError where something is missing, or is no override."""
  wrong = [
    override
    for override in overrides
    if not (override.startswith('--config.') and '=' in override)
  ]
  if wrong:
    raise errors.InputError(
      f'Unexpected arguments: {wrong}. Flags are shown by --help, and overrides'
      ' are --config.KEY=VALUE.'
    )
  if not _CONFIG.value:
    raise errors.InputError(
      '--config is missing; start with --config=configs/tpu_pod.py'
    )
  if not _TOPOLOGY.value:
    raise errors.InputError(
      '--topology is missing; start with --topology=v5e:4x4'
    )


def _say(text):
  print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
  command_line.run(main, passes_unknown=True)
