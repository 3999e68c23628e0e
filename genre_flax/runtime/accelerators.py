"""Peak rates of TPUs and GPUs, and the slices of each TPU generation.

A slice has two names: the type of the Cloud TPU API, such as v5litepod-16, and
generation and shape, such as v5e:4x4.
"""

import dataclasses
import math
import re

from genre_flax.runtime import errors

_2D = ('1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '8x16', '16x16')
_3D = (
  *('2x2x1', '2x2x2', '2x2x4', '2x4x4', '4x4x4', '4x4x8', '4x8x8', '8x8x8'),
  *('8x8x16', '8x16x16'),
)
_V3 = ('2x2', *_2D[3:], '16x32', '32x32')
# Jouppi et al., 2020, 'A Domain-Specific Supercomputer for Training Deep Neural
# Networks'.
_TPU_V2_PAPER = 'https://doi.org/10.1145/3360307'
_TPU_DOCS = 'https://docs.cloud.google.com/tpu/docs'
# Data sheets of the A100, the H100 SXM and the H200, without sparsity.
_NVIDIA = 'https://www.nvidia.com/en-us/data-center'


@dataclasses.dataclass(frozen=True)
class Chip:
  """Peak rates of a chip, which is one device of JAX or two.

  Attributes:
    name: Generation, such as 'v5e'.
    flops_per_second: Dense bfloat16 operations; a multiply-add counts as two.
      0 if it is not published, like `bytes_per_second`.
    bytes_per_second: Bandwidth of its high-bandwidth memory.
    source: Where the rates are published.
    topologies: Shapes of slices in chips, such as '4x4', ascending.
    prefix: Of the names of slice types, such as 'v5litepod'; '' for `name`.
    units_per_chip: Which the number in a slice type's name counts: cores, of
      which a chip has two, or chips.
    devices_per_chip: Devices of JAX.
    max_chips_per_host: Of a slice with one host; more hosts have four each.
    runtime_version: Of the image of a TPU VM; '' if there is none.
    gke_accelerator: Label of nodes on GKE; '' if there are none.
  """

  name: str
  flops_per_second: float
  bytes_per_second: float
  source: str
  topologies: tuple[str, ...] = ()
  prefix: str = ''
  units_per_chip: int = 2
  devices_per_chip: int = 1
  max_chips_per_host: int = 4
  runtime_version: str = 'tpu-ubuntu2204-base'
  gke_accelerator: str = ''


# By the device kind of JAX.
CHIPS = {
  'TPU v2': Chip(
    *('v2', 46e12, 700e9, _TPU_V2_PAPER, ('2x2', *_2D[3:])),
    devices_per_chip=2,
  ),
  'TPU v3': Chip(
    *('v3', 123e12, 900e9, f'{_TPU_DOCS}/v3', _V3), devices_per_chip=2
  ),
  'TPU v4': Chip(
    *('v4', 275e12, 1200e9, f'{_TPU_DOCS}/v4', _3D),
    gke_accelerator='tpu-v4-podslice',
  ),
  'TPU v5 lite': Chip(
    *('v5e', 197e12, 819e9, f'{_TPU_DOCS}/v5e', _2D),
    prefix='v5litepod',
    units_per_chip=1,
    max_chips_per_host=8,
    runtime_version='v2-alpha-tpuv5-lite',
    gke_accelerator='tpu-v5-lite-podslice',
  ),
  'TPU v5': Chip(
    *('v5p', 459e12, 2765e9, f'{_TPU_DOCS}/v5p', _3D),
    runtime_version='v2-alpha-tpuv5',
    gke_accelerator='tpu-v5p-slice',
  ),
  'TPU v6 lite': Chip(
    *('v6e', 918e12, 1638e9, f'{_TPU_DOCS}/v6e', _2D),
    units_per_chip=1,
    max_chips_per_host=8,
    runtime_version='v2-alpha-tpuv6e',
    gke_accelerator='tpu-v6e-slice',
  ),
  # Not part of the Cloud TPU API, and without published rates in bfloat16.
  'TPU7x': Chip(
    *('tpu7x', 0.0, 0.0, f'{_TPU_DOCS}/tpu7x', _3D),
    devices_per_chip=2,
    runtime_version='',
    gke_accelerator='tpu7x',
  ),
  'NVIDIA A100-SXM4-40GB': Chip('A100', 312e12, 1555e9, f'{_NVIDIA}/a100'),
  'NVIDIA A100-SXM4-80GB': Chip('A100', 312e12, 2039e9, f'{_NVIDIA}/a100'),
  'NVIDIA H100 80GB HBM3': Chip('H100', 989e12, 3350e9, f'{_NVIDIA}/h100'),
  'NVIDIA H200': Chip('H200', 989e12, 4800e9, f'{_NVIDIA}/h200'),
}
# TPUs by generation.
TPUS = {chip.name: chip for chip in CHIPS.values() if chip.topologies}


@dataclasses.dataclass(frozen=True)
class Slice:
  """A slice of a TPU pod.

  Attributes:
    chip: Of the generation.
    topology: Its shape in chips, such as '4x4'.
  """

  chip: Chip
  topology: str

  @property
  def name(self) -> str:
    """Generation and shape, such as 'v5e:4x4'."""
    return f'{self.chip.name}:{self.topology}'

  @property
  def type(self) -> str:
    """The type of the Cloud TPU API, such as 'v5litepod-16'."""
    prefix = self.chip.prefix or self.chip.name
    return f'{prefix}-{self.num_chips * self.chip.units_per_chip}'

  @property
  def num_chips(self) -> int:
    """Chips of the slice."""
    return math.prod(map(int, self.topology.split('x')))

  @property
  def num_devices(self) -> int:
    """Devices of JAX, on all hosts."""
    return self.num_chips * self.chip.devices_per_chip

  @property
  def num_hosts(self) -> int:
    """Hosts of the Cloud TPU API, which has hosts of eight v5e or v6e."""
    is_one_host = self.num_chips <= self.chip.max_chips_per_host
    return 1 if is_one_host else self.num_chips // 4


def parse_slice(name: str) -> Slice:
  """Parses either name of a slice, such as v5litepod-16 or v5e:4x4.

  Args:
    name: GENERATION:SHAPE, or a type of the Cloud TPU API, where 'tpu-' may
      precede. The number in a type counts chips of v5e and v6e, and cores of
      the other generations.

  Raises:
    InputError: There is no such slice.
  """
  found = re.fullmatch(r'(?:tpu-)?(\w+)(?::([\dx]+)|-(\d+))', name)
  for chip in TPUS.values():
    if not found or found[1] not in (chip.name, chip.prefix):
      continue
    slices = [Slice(chip, topology) for topology in chip.topologies]
    for candidate in slices:
      if found[2] == candidate.topology or (
        found[3] and candidate.type.endswith(f'-{found[3]}')
      ):
        return candidate
    known = ', '.join(f'{s.type} ({s.name})' for s in slices)
    raise errors.InputError(
      f'{name!r} is not a slice of {chip.name}; expected one of {known}.'
    )
  raise errors.InputError(
    f'{name!r} is not a TPU slice; expected a type such as v5litepod-16, or'
    f' GENERATION:SHAPE such as v5e:4x4, of {", ".join(TPUS)}.'
  )
