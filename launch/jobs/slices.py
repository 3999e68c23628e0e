"""What the name of a slice type, such as v5litepod-16, says about machines."""

import dataclasses
import math
import re

from genre_flax.runtime import accelerators
from genre_flax.runtime import errors


@dataclasses.dataclass(frozen=True)
class _Generation:
  chip: accelerators.Chip
  cores_per_chip: int  # As the number in the type's name counts them.
  max_chips_of_one_host: int
  runtime_version: str
  gke_accelerator: str | None

  @property
  def topologies(self) -> dict[int, str]:
    """By the number of chips."""
    return {
      math.prod(map(int, topology.split('x'))): topology
      for topology in self.chip.topologies
    }


_TPUS = accelerators.TPUS
_GENERATIONS = {
  'v2': _Generation(_TPUS['v2'], 2, 4, 'tpu-ubuntu2204-base', None),
  'v3': _Generation(_TPUS['v3'], 2, 4, 'tpu-ubuntu2204-base', None),
  'v4': _Generation(
    _TPUS['v4'], 2, 4, 'tpu-ubuntu2204-base', 'tpu-v4-podslice'
  ),
  'v5litepod': _Generation(
    _TPUS['v5e'], 1, 8, 'v2-alpha-tpuv5-lite', 'tpu-v5-lite-podslice'
  ),
  'v5p': _Generation(_TPUS['v5p'], 2, 4, 'v2-alpha-tpuv5', 'tpu-v5p-slice'),
  'v6e': _Generation(_TPUS['v6e'], 1, 8, 'v2-alpha-tpuv6e', 'tpu-v6e-slice'),
}
# Hosts of a slice of several have four chips each, of all generations.
_CHIPS_PER_HOST = 4


@dataclasses.dataclass(frozen=True)
class Slice:
  """A slice of a TPU pod.

  Attributes:
    type: its name, such as v5litepod-16.
    num_chips: of the slice.
    num_hosts: of the slice.
    topology: such as 4x4.
    runtime_version: of a TPU VM's image.
    gke_accelerator: the label of such nodes; None where GKE has none.
  """

  type: str
  num_chips: int
  num_hosts: int
  topology: str
  runtime_version: str
  gke_accelerator: str | None

  @property
  def chips_per_host(self) -> int:
    """Chips of each host."""
    return self.num_chips // self.num_hosts


def parse(name: str) -> Slice:
  """Reads a slice type.

  Args:
    name: GENERATION-NUMBER; the number counts chips of v5litepod and v6e, and
      cores, of which a chip has two, of the others.

  Returns:
    The slice.

  Raises:
    InputError: there is no such type.
  """
  match = re.fullmatch(r'(\w+)-(\d+)', name)
  generation = _GENERATIONS.get(match[1]) if match else None
  if generation is None:
    raise errors.InputError(
      f'--slice_type={name} is not known; expected GENERATION-NUMBER, such as'
      f' v5litepod-16, with a generation of {", ".join(_GENERATIONS)}.'
    )
  num_chips, rest = divmod(int(match[2]), generation.cores_per_chip)
  if rest or num_chips not in generation.topologies:
    sizes = ', '.join(
      f'{match[1]}-{chips * generation.cores_per_chip}'
      for chips in generation.topologies
    )
    raise errors.InputError(
      f'--slice_type={name} is not a size of {match[1]}; there are {sizes}.'
    )
  is_one_host = num_chips <= generation.max_chips_of_one_host
  return Slice(
    type=name,
    num_chips=num_chips,
    num_hosts=1 if is_one_host else num_chips // _CHIPS_PER_HOST,
    topology=generation.topologies[num_chips],
    runtime_version=generation.runtime_version,
    gke_accelerator=generation.gke_accelerator,
  )
