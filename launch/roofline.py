"""The least time of a compiled step, from the peak rates of a chip.

The roofline model (Williams et al., 2009): a step takes at least as long as its
operations at the peak rate, and as its memory traffic at the peak bandwidth.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any

from genre_flax.runtime import accelerators
from genre_flax.runtime import errors

# The output of `genre_flax.lower` for a step; with a bound, a plan.
Facts = dict[str, Any]

NOTE = """\
A bound is not a measurement: no step was run. It is the time of the operations
and bytes that the compiler counts, at peak rates. Half-filled matrix units,
waiting, the sum over devices and the input pipeline make a real step slower;
some of the bytes stay in on-chip memory. Float32 products count like bfloat16
ones, to which JAX rounds their factors by default. The memory is the figure
that the compiler compares with its limit."""

_GIB = 2**30


def make_plan(facts: Facts) -> Facts:
  """Adds peak rates and the bound to the facts of a compiled step.

  Returns:
    The facts with 'peak', the rates of a device, None if none are published,
    and 'bound', None without rates and if the step does not fit.
  """
  plan = {**facts, 'peak': None, 'bound': None}
  chip = accelerators.CHIPS.get(facts['device_kind'])
  if chip is None or not chip.flops_per_second:
    return plan
  share = facts['num_chips'] / facts['num_devices']
  plan['peak'] = {
    'flops_per_second': chip.flops_per_second * share,
    'bytes_per_second': chip.bytes_per_second * share,
    'source': chip.source,
  }
  if facts['fits']:
    compute = facts['flops'] / plan['peak']['flops_per_second']
    memory = facts['bytes_accessed'] / plan['peak']['bytes_per_second']
    plan['bound'] = {
      'compute_seconds': compute,
      'memory_seconds': memory,
      'step_seconds': max(compute, memory),
      'binds': 'compute' if compute >= memory else 'memory',
      'images_per_second': facts['global_batch_size'] / max(compute, memory),
    }
  return plan


def describe(plan: Facts) -> str:
  """A plan of `make_plan` in words, with its arithmetic."""
  per_device = plan['per_device_batch_size']
  lines = [
    f'{_slice_names(plan)}: {plan["num_chips"]} chips ({plan["device_kind"]}),'
    f' {plan["num_devices"]} devices, {plan["num_hosts"]} host(s)',
    f'  batch    {plan["global_batch_size"]} = {plan["num_devices"]} devices x'
    f' {per_device}',
    f'  memory   {describe_memory(plan)}',
  ]
  if not plan['fits']:
    lines.append(
      '  remedy   a smaller --config.batch_size, a larger'
      ' --config.micro_batch_size, or more chips'
    )
  elif plan['bound'] is None:
    lines.append(
      f'  bound    none: no peak rates of {plan["device_kind"]!r} are in'
      ' genre_flax/runtime/accelerators.py'
    )
  else:
    limit, peak = plan['bound'], plan['peak']
    marks = {limit['binds']: '  <- binds'}
    lines += [
      f'  compute  {plan["flops"] / per_device / 1e9:.3g} GFLOP per image x'
      f' {per_device} / {peak["flops_per_second"] / 1e12:g} TFLOP/s ='
      f' {limit["compute_seconds"] * 1e3:.2f} ms{marks.get("compute", "")}',
      f'  traffic  {plan["bytes_accessed"] / per_device / 1e6:.3g} MB per image'
      f' x {per_device} / {peak["bytes_per_second"] / 1e9:g} GB/s ='
      f' {limit["memory_seconds"] * 1e3:.2f} ms{marks.get("memory", "")}',
      f'  bound    at least {limit["step_seconds"] * 1e3:.2f} ms per step, at'
      f' most {limit["images_per_second"]:,.0f} images/s on the slice and'
      f' {_peak_share(limit):.0%} of the peak rate',
      f'  peaks    {peak["source"]}',
    ]
  return '\n'.join([*lines, f'  compiled in {plan["compile_seconds"]:.0f} s'])


def _slice_names(plan):
  """Both names of a slice, such as v5e:4x4 (v5litepod-16)."""
  given = plan['topology']
  try:
    found = accelerators.parse_slice(given)
  except errors.InputError:  # A slice of the compiler alone.
    return given
  return f'{given} ({found.type if given == found.name else found.name})'


def _peak_share(limit):
  """The largest share of the peak rate that the bound allows."""
  return limit['compute_seconds'] / limit['step_seconds']


def summarize(plans: Sequence[Facts]) -> str:
  """A table with a line for each plan."""
  lines = [
    f'{"slice":13}{"batch":>7}{"a device":>10}{"GiB of":>9}{"there":>7}'
    f'{"GFLOP":>8}{"MB":>7}{"ms":>8}{"images/s":>10}{"of peak":>9}  binds'
  ]
  for plan in plans:
    per_device, limit = plan['per_device_batch_size'], plan['bound']
    line = (
      f'{plan["topology"]:13}{plan["global_batch_size"]:7}{per_device:10}'
      f'{plan["hbm_bytes_needed"] / _GIB:9.2f}'
      f'{plan["hbm_bytes_available"] / _GIB:7.2f}'
    )
    if limit is None:
      fits = 'no peak rates' if plan['fits'] else 'does not fit'
      lines.append(f'{line}  {fits}')
      continue
    lines.append(
      f'{line}{plan["flops"] / per_device / 1e9:8.2f}'
      f'{plan["bytes_accessed"] / per_device / 1e6:7.1f}'
      f'{limit["step_seconds"] * 1e3:8.2f}'
      f'{limit["images_per_second"]:10,.0f}{_peak_share(limit):9.0%}'
      f'  {limit["binds"]}'
    )
  return '\n'.join(lines)


def describe_memory(facts: Facts) -> str:
  """Memory that a device needs and has, and the difference."""
  needed = facts['hbm_bytes_needed'] / _GIB
  available = facts['hbm_bytes_available'] / _GIB
  share = f'{needed:.2f} of {available:.2f} GiB per device'
  if facts['fits']:
    return f'{share}: fits, {available - needed:.2f} GiB to spare'
  return f'{share}: does NOT fit, {needed - available:.2f} GiB too many'


def find_largest(
  compile_step: Callable[[int], Facts], first: Facts, *, multiple_of: int
) -> Facts | None:
  """Searches the largest per-device batch whose step fits into the memory.

  Memory grows about in proportion to the batch. The search starts from the
  power of two that the first compilation suggests, and ends at most an eighth
  below the largest batch.

  Args:
    compile_step: compiles for a per-device batch.
    first: facts of a compilation.
    multiple_of: divisor of the per-device batch.

  Returns:
    The facts of the largest batch that was found to fit; None if not even
    `multiple_of` fits.
  """
  known = {first['per_device_batch_size']: first}

  def facts(units: int) -> Facts:
    batch = units * multiple_of
    if batch not in known:
      known[batch] = compile_step(batch)
    return known[batch]

  expected = first['per_device_batch_size'] / multiple_of
  expected *= first['hbm_bytes_available'] / first['hbm_bytes_needed']
  low = 2 ** max(0, math.floor(math.log2(expected)))
  while facts(low)['fits'] and facts(2 * low)['fits']:
    low *= 2
  while not facts(low)['fits']:
    if low == 1:
      return None
    low //= 2
  high, gap = 2 * low, max(1, low // 8)
  while high - low > gap:
    middle = (low + high) // 2
    low, high = (middle, high) if facts(middle)['fits'] else (low, middle)
  return facts(low)
