"""What the name of a slice type, such as v5litepod-16, says about machines."""

import dataclasses
import re

from genre_flax.runtime import errors

# Chips to topology. Of v4 and v5p these are the usual ones of their size.
_2D = {
  1: '1x1',
  4: '2x2',
  8: '2x4',
  16: '4x4',
  32: '4x8',
  64: '8x8',
  128: '8x16',
  256: '16x16',
}
_3D = {
  4: '2x2x1',
  8: '2x2x2',
  16: '2x2x4',
  32: '2x4x4',
  64: '4x4x4',
  128: '4x4x8',
  256: '4x8x8',
  512: '8x8x8',
  1024: '8x8x16',
  2048: '8x16x16',
}


@dataclasses.dataclass(frozen=True)
class _Generation:
  cores_per_chip: int  # As the number in the type's name counts them.
  max_chips_of_one_host: int
  runtime_version: str
  gke_accelerator: str | None
  topologies: dict[int, str]


_GENERATIONS = {
  'v2': _Generation(2, 4, 'tpu-ubuntu2204-base', None, _2D),
  'v3': _Generation(2, 4, 'tpu-ubuntu2204-base', None, _2D),
  'v4': _Generation(2, 4, 'tpu-ubuntu2204-base', 'tpu-v4-podslice', _3D),
  'v5litepod': _Generation(
    1, 8, 'v2-alpha-tpuv5-lite', 'tpu-v5-lite-podslice', _2D
  ),
  'v5p': _Generation(2, 4, 'v2-alpha-tpuv5', 'tpu-v5p-slice', _3D),
  'v6e': _Generation(1, 8, 'v2-alpha-tpuv6e', 'tpu-v6e-slice', _2D),
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
