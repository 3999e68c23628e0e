"""The least time of a step, from the peak rates of a chip.

The roofline model (Williams et al., 2009): a step takes at least as long as its
operations at the peak rate, and as its memory traffic at the peak bandwidth.
"""

import dataclasses

from genre_flax.runtime import accelerators


@dataclasses.dataclass(frozen=True)
class Bound:
  """The least time that a step takes, in seconds.

  Attributes:
    compute_seconds: of its operations at the peak rate.
    memory_seconds: of its memory traffic at the peak bandwidth.
    step_seconds: the larger of the two.
    binds: which it is, 'compute' or 'memory'.
    images_per_second: of the whole slice, at most.
  """

  compute_seconds: float
  memory_seconds: float
  step_seconds: float
  binds: str
  images_per_second: float


def device_peaks(
  chip: accelerators.Chip, *, num_chips: int, num_devices: int
) -> tuple[float, float]:
  """(operations a second, bytes a second) of one device of a slice."""
  share = num_chips / num_devices
  return chip.flops_per_second * share, chip.bytes_per_second * share


def bound(
  flops: float,
  bytes_accessed: float,
  *,
  flops_per_second: float,
  bytes_per_second: float,
  global_batch_size: int,
) -> Bound:
  """The bound of a step.

  Args:
    flops: operations of a device in a step.
    bytes_accessed: that a device reads and writes in a step.
    flops_per_second: of `device_peaks`.
    bytes_per_second: of `device_peaks`.
    global_batch_size: images a step, over all devices.

  Returns:
    The bound.
  """
  compute_seconds = flops / flops_per_second
  memory_seconds = bytes_accessed / bytes_per_second
  step_seconds = max(compute_seconds, memory_seconds)
  return Bound(
    compute_seconds=compute_seconds,
    memory_seconds=memory_seconds,
    step_seconds=step_seconds,
    binds='compute' if compute_seconds >= memory_seconds else 'memory',
    images_per_second=global_batch_size / step_seconds,
  )
