"""How fast a step can be at most: peak figures of TPUs, and the arithmetic.

The roofline model (Williams et al., 2009): a step takes at least as long as its
operations at the peak rate, and as its memory traffic at the peak bandwidth.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
  """Peak figures of a chip, which may be one device or two.

  Attributes:
    name: of the generation.
    flops_per_second: bfloat16 operations, a product and a sum counted as two.
    bytes_per_second: to and from its high-bandwidth memory (HBM).
    source: where both figures are published.
  """

  name: str
  flops_per_second: float
  bytes_per_second: float
  source: str


# By what JAX calls the device.
CHIPS = {
  # Jouppi et al., 2020, 'A Domain-Specific Supercomputer for Training Deep
  # Neural Networks', to which Google's page on v2 refers.
  'TPU v2': Chip('v2', 46e12, 700e9, 'https://doi.org/10.1145/3360307'),
  'TPU v3': Chip(
    'v3', 123e12, 900e9, 'https://docs.cloud.google.com/tpu/docs/v3'
  ),
  'TPU v4': Chip(
    'v4', 275e12, 1200e9, 'https://docs.cloud.google.com/tpu/docs/v4'
  ),
  'TPU v5 lite': Chip(
    'v5e', 197e12, 819e9, 'https://docs.cloud.google.com/tpu/docs/v5e'
  ),
  'TPU v5': Chip(
    'v5p', 459e12, 2765e9, 'https://docs.cloud.google.com/tpu/docs/v5p'
  ),
  'TPU v6 lite': Chip(
    'v6e', 918e12, 1638e9, 'https://docs.cloud.google.com/tpu/docs/v6e'
  ),
}


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
  chip: Chip, *, num_chips: int, num_devices: int
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
