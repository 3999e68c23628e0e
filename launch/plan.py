r"""Says what a TPU slice would do with a config, before it is rented.

python -m launch.plan --config=configs/tpu_pod.py --topology=v5e:4x4 \
  --topology=v4:2x2x4 --config.image_size=400

The real training step is compiled by the TPU compiler, which needs no TPU and
no data set. What comes out is memory, which is exact, and a bound on the speed,
which is no measurement.
"""

from collections.abc import Sequence
import dataclasses
import functools
import json
import pathlib
import subprocess
import sys
from typing import Any

from absl import app
from absl import flags

from launch import batch_search
from launch import errors
from launch import roofline

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

_GIB = 2**30
NOTE = """\
A bound is not a measurement: no step was run. The times are the least that the
peak figures allow. A real step is slower: channels that do not fill the matrix
units, waiting between operations, the sum over devices and the input pipeline
are not counted. Float32 products are taken at JAX's default precision, rounded
to bfloat16 in one pass. The bytes are what the compiler counts over its
operations; some of them may stay in on-chip memory. The memory is exact."""


def main(argv: list[str]) -> int:
  overrides = _check_arguments(argv)
  plans = []
  for topology in _TOPOLOGY.value:
    compile_step = functools.partial(_compile_step, topology, overrides)
    _say(f'{topology}: compiling; that takes from seconds to minutes')
    facts = compile_step()
    plans.append(plan := make_plan(facts))
    if len(plans) == 1:
      print(describe_step(facts))
    print(f'\n{describe(plan)}', flush=True)
    if _SEARCH_BATCH.value:
      plan['largest_batch'] = _search(compile_step, facts)
  if len(plans) > 1:
    print(f'\n{summarize(plans)}')
  print(f'\n{NOTE}')
  if _OUTPUT.value:
    document = {
      'config': _CONFIG.value,
      'overrides': overrides,
      'note': NOTE.replace('\n', ' '),
      'plans': plans,
    }
    pathlib.Path(_OUTPUT.value).write_text(
      f'{json.dumps(document, indent=2)}\n'
    )
  return 0


def make_plan(facts: dict[str, Any]) -> dict[str, Any]:
  """Adds peak figures and the bound to what `genre_flax.lower` said.

  Args:
    facts: of a compiled step.

  Returns:
    The facts, with 'peak' and, where the step fits, 'bound'; else None.

  Raises:
    LaunchError: the peak figures of the devices are not known.
  """
  chip = roofline.CHIPS.get(facts['device_kind'])
  if chip is None:
    raise errors.LaunchError(
      f'No peak figures are known for {facts["device_kind"]!r}; known are'
      f' {", ".join(roofline.CHIPS)}. Add them to launch/roofline.py.'
    )
  flops_per_second, bytes_per_second = roofline.device_peaks(
    chip, num_chips=facts['num_chips'], num_devices=facts['num_devices']
  )
  bound = None
  if facts['fits']:
    bound = dataclasses.asdict(
      roofline.bound(
        facts['flops'],
        facts['bytes_accessed'],
        flops_per_second=flops_per_second,
        bytes_per_second=bytes_per_second,
        global_batch_size=facts['global_batch_size'],
      )
    )
  return {
    **facts,
    'peak': {
      'flops_per_second': flops_per_second,
      'bytes_per_second': bytes_per_second,
      'source': chip.source,
    },
    'bound': bound,
  }


def describe_step(facts: dict[str, Any]) -> str:
  """What was compiled, in a line."""
  return (
    f'{facts["model"]}, {facts["image_height"]} x {facts["image_width"]}'
    f' pixels, {facts["dtype"]}, {facts["num_genres"]} genres'
  )


def describe(plan: dict[str, Any]) -> str:
  """A plan of `make_plan` in words, with its arithmetic."""
  per_device = plan['per_device_batch_size']
  lines = [
    f'{plan["topology"]}: {plan["num_chips"]} chips ({plan["device_kind"]}),'
    f' {plan["num_devices"]} devices, {plan["num_hosts"]} host(s)',
    f'  batch    {plan["global_batch_size"]} = {plan["num_devices"]} devices x'
    f' {per_device}',
    f'  memory   {_describe_memory(plan)}',
  ]
  if plan['fits']:
    bound, peak = plan['bound'], plan['peak']
    marks = {bound['binds']: '  <- binds'}
    lines += [
      f'  compute  {plan["flops"] / per_device / 1e9:.3g} GFLOP an image x'
      f' {per_device} / {peak["flops_per_second"] / 1e12:g} TFLOP/s ='
      f' {bound["compute_seconds"] * 1e3:.2f} ms{marks.get("compute", "")}',
      f'  traffic  {plan["bytes_accessed"] / per_device / 1e6:.3g} MB an image'
      f' x {per_device} / {peak["bytes_per_second"] / 1e9:g} GB/s ='
      f' {bound["memory_seconds"] * 1e3:.2f} ms{marks.get("memory", "")}',
      f'  bound    at least {bound["step_seconds"] * 1e3:.2f} ms a step, at most'
      f' {bound["images_per_second"]:,.0f} images/s on the slice',
      f'  peaks    {peak["source"]}',
    ]
  return '\n'.join([*lines, f'  compiled in {plan["compile_seconds"]:.0f} s'])


def summarize(plans: Sequence[dict[str, Any]]) -> str:
  """A table with a line for each plan."""
  lines = [
    f'{"slice":12}{"batch":>7}{"a device":>10}{"GiB of":>9}{"there":>7}'
    f'{"GFLOP":>8}{"MB":>7}{"ms":>8}{"images/s":>10}  binds'
  ]
  for plan in plans:
    per_device, bound = plan['per_device_batch_size'], plan['bound']
    line = (
      f'{plan["topology"]:12}{plan["global_batch_size"]:7}{per_device:10}'
      f'{plan["hbm_bytes_needed"] / _GIB:9.2f}'
      f'{plan["hbm_bytes_available"] / _GIB:7.2f}'
    )
    if bound is None:
      lines.append(f'{line}  does not fit')
      continue
    lines.append(
      f'{line}{plan["flops"] / per_device / 1e9:8.2f}'
      f'{plan["bytes_accessed"] / per_device / 1e6:7.1f}'
      f'{bound["step_seconds"] * 1e3:8.2f}'
      f'{bound["images_per_second"]:10,.0f}  {bound["binds"]}'
    )
  return '\n'.join(lines)


def _describe_memory(facts):
  needed = facts['hbm_bytes_needed'] / _GIB
  available = facts['hbm_bytes_available'] / _GIB
  share = f'{needed:.2f} of {available:.2f} GiB a device'
  if facts['fits']:
    return f'{share}: fits, {available - needed:.2f} GiB to spare'
  return (
    f'{share}: does NOT fit, {needed - available:.2f} GiB too many; choose a'
    ' smaller --config.batch_size or a larger --config.accumulate_steps'
  )


def _search(compile_step, first):
  """Searches the largest batch; says so; returns its plan, or None."""

  def compile_batch(per_device):
    facts = compile_step(per_device * first['num_devices'])
    _say(
      f'{first["topology"]}: {per_device} a device: {_describe_memory(facts)}'
      f' (compiled in {facts["compile_seconds"]:.0f} s)'
    )
    return facts

  # Mixup blends pairs in each part.
  multiple_of = 2 * first['accumulate_steps']
  largest = batch_search.find_largest(
    compile_batch, first, multiple_of=multiple_of
  )
  if largest is None:
    print(f'  largest  not even {multiple_of} images a device fit')
    return None
  plan = make_plan(largest)
  print(
    f'  largest  {plan["per_device_batch_size"]} images a device fit, so'
    f' --config.batch_size={plan["global_batch_size"]}, to within an eighth:'
    f' {_describe_memory(plan)}',
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
      raise errors.LaunchError(message.strip())
    raise RuntimeError(
      f'{" ".join(command)} ended with status {done.returncode}:\n{done.stderr}'
    )
  return json.loads(done.stdout)


def _check_arguments(argv):
  """The overrides among the arguments that are no flags of this program."""
  wrong = [
    argument
    for argument in argv[1:]
    if not (argument.startswith('--config.') and '=' in argument)
  ]
  if wrong:
    raise errors.LaunchError(
      f'Unexpected arguments: {wrong}. Flags are shown by --help, and overrides'
      ' are --config.KEY=VALUE.'
    )
  if not _CONFIG.value:
    raise errors.LaunchError(
      '--config is missing; start with --config=configs/tpu_pod.py'
    )
  if not _TOPOLOGY.value:
    raise errors.LaunchError(
      '--topology is missing; start with --topology=v5e:4x4'
    )
  return argv[1:]


def _say(text):
  print(text, file=sys.stderr, flush=True)


def _parse_flags(argv):
  """Parses the flags; overrides of the config are left for genre_flax."""
  try:
    return flags.FLAGS(argv, known_only=True)
  except flags.Error as e:
    print(f'error: {e}\nPass --help to see the flags.', file=sys.stderr)
    sys.exit(2)


def _guarded_main(argv):
  try:
    return main(argv)
  except errors.LaunchError as e:
    print(f'error: {e}', file=sys.stderr)
    return 2


if __name__ == '__main__':
  app.run(_guarded_main, flags_parser=_parse_flags)
