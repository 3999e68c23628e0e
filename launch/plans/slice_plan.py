"""A compiled step held against the peak figures, and told in words."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from genre_flax.runtime import accelerators
from genre_flax.runtime import errors
from launch.plans import roofline

# What `genre_flax.lower` says of a step; with a bound, a plan.
Facts = dict[str, Any]

NOTE = """\
A bound is not a measurement: no step was run. It is the time that the
operations and the bytes which the compiler counts take at peak rates. A real
step is slower: matrix units that a layer does not fill, waiting between
operations, the sum over devices and the input pipeline are not counted. On the
other side, some of the bytes counted stay in on-chip memory. Float32 products
count like bfloat16 ones: JAX's default precision rounds their factors to
bfloat16, in one pass. The memory is what the compiler itself holds against its
limit."""

_GIB = 2**30


def make_plan(facts: Facts) -> Facts:
  """Adds peak figures and the bound to what `genre_flax.lower` said.

  Args:
    facts: of a compiled step.

  Returns:
    The facts, with 'peak' and, where the step fits, 'bound'; else None.

  Raises:
    InputError: the peak figures of the devices are not known.
  """
  chip = accelerators.CHIPS.get(facts['device_kind'])
  if chip is None:
    raise errors.InputError(
      f'No peak figures are known for {facts["device_kind"]!r}; known are'
      f' {", ".join(accelerators.CHIPS)}. Add them to'
      ' genre_flax/runtime/accelerators.py.'
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


def describe_step(facts: Facts) -> str:
  """What was compiled, in a line."""
  return (
    f'{facts["model"]}, {facts["image_height"]} x {facts["image_width"]}'
    f' pixels, {facts["dtype"]}, {facts["num_genres"]} genres'
  )


def describe(plan: Facts) -> str:
  """A plan of `make_plan` in words, with its arithmetic."""
  per_device = plan['per_device_batch_size']
  lines = [
    f'{plan["topology"]}: {plan["num_chips"]} chips ({plan["device_kind"]}),'
    f' {plan["num_devices"]} devices, {plan["num_hosts"]} host(s)',
    f'  batch    {plan["global_batch_size"]} = {plan["num_devices"]} devices x'
    f' {per_device}',
    f'  memory   {describe_memory(plan)}',
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
      f'  bound    at least {bound["step_seconds"] * 1e3:.2f} ms a step, at'
      f' most {bound["images_per_second"]:,.0f} images/s on the slice and'
      f' {_peak_share(bound):.0%} of the peak rate',
      f'  peaks    {peak["source"]}',
    ]
  else:
    lines.append(
      '  remedy   a smaller --config.batch_size or'
      ' --config.micro_batch_size, or more chips'
    )
  return '\n'.join([*lines, f'  compiled in {plan["compile_seconds"]:.0f} s'])


def _peak_share(bound):
  """Of the operations a second that the devices can do, at most."""
  return bound['compute_seconds'] / bound['step_seconds']


def summarize(plans: Sequence[Facts]) -> str:
  """A table with a line for each plan."""
  lines = [
    f'{"slice":12}{"batch":>7}{"a device":>10}{"GiB of":>9}{"there":>7}'
    f'{"GFLOP":>8}{"MB":>7}{"ms":>8}{"images/s":>10}{"of peak":>9}  binds'
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
      f'{bound["images_per_second"]:10,.0f}{_peak_share(bound):9.0%}'
      f'  {bound["binds"]}'
    )
  return '\n'.join(lines)


def describe_memory(facts: Facts) -> str:
  """What a device needs, what it has, and the difference."""
  needed = facts['hbm_bytes_needed'] / _GIB
  available = facts['hbm_bytes_available'] / _GIB
  share = f'{needed:.2f} of {available:.2f} GiB a device'
  if facts['fits']:
    return f'{share}: fits, {available - needed:.2f} GiB to spare'
  return f'{share}: does NOT fit, {needed - available:.2f} GiB too many'
