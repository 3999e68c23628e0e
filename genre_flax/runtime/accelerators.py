"""Peak rates of TPUs and GPUs, and the slices of each TPU generation."""

import dataclasses

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
    bytes_per_second: Bandwidth of its high-bandwidth memory.
    source: Where the rates are published.
    topologies: Shapes of slices in chips, such as '4x4', ascending.
  """

  name: str
  flops_per_second: float
  bytes_per_second: float
  source: str
  topologies: tuple[str, ...] = ()


# By the device kind of JAX.
CHIPS = {
  'TPU v2': Chip('v2', 46e12, 700e9, _TPU_V2_PAPER, ('2x2', *_2D[3:])),
  'TPU v3': Chip('v3', 123e12, 900e9, f'{_TPU_DOCS}/v3', _V3),
  'TPU v4': Chip('v4', 275e12, 1200e9, f'{_TPU_DOCS}/v4', _3D),
  'TPU v5 lite': Chip('v5e', 197e12, 819e9, f'{_TPU_DOCS}/v5e', _2D),
  'TPU v5': Chip('v5p', 459e12, 2765e9, f'{_TPU_DOCS}/v5p', _3D),
  'TPU v6 lite': Chip('v6e', 918e12, 1638e9, f'{_TPU_DOCS}/v6e', _2D),
  'NVIDIA A100-SXM4-40GB': Chip('A100', 312e12, 1555e9, f'{_NVIDIA}/a100'),
  'NVIDIA A100-SXM4-80GB': Chip('A100', 312e12, 2039e9, f'{_NVIDIA}/a100'),
  'NVIDIA H100 80GB HBM3': Chip('H100', 989e12, 3350e9, f'{_NVIDIA}/h100'),
  'NVIDIA H200': Chip('H200', 989e12, 4800e9, f'{_NVIDIA}/h200'),
}
# TPUs by generation.
TPUS = {chip.name: chip for chip in CHIPS.values() if chip.topologies}
