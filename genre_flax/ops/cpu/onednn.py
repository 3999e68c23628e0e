"""Convolutions and matrix products by oneDNN, kernels that jaxlib brings along.

XLA has operations that run oneDNN's, but its compiler never chooses them in the
jaxlib that is published. Asked for by name, convolutions are 1.3 to 2 times
faster than XLA's own, forward and to the images, and 2 to 5 times faster than
depthwise ones by shifted products (2 cores with AVX-512). In bfloat16, which
XLA computes at the speed of float32 or below, both are 4 to 8 times faster with
AMX.

The names and their settings are XLA's own affair and may change with a release,
and a wrong setting ends the process. So they are used only with the releases
that the tests have run on, and on a CPU where another process has tried them,
`onednn_trial`; all others take XLA's own operations, with the same numbers but
for rounding. They can be turned off by GENRE_FLAX_ONEDNN=0.
"""

import json
import os

import jax
import jax.numpy as jnp
import jaxlib

from genre_flax.ops.cpu import onednn_check as onednn_trial
from genre_flax.runtime import platform

_CONVOLUTION, _MATMUL = '__onednn$convolution', '__onednn$matmul'
_DTYPES = ('float32', 'bfloat16')
# What can follow a convolution in the same call, by oneDNN's names.
ACTIVATIONS = {'': [], 'relu': ['RELU'], 'relu6': ['RELU6']}
# XLA's number for a custom call that gets its settings as text and may fail.
_API_VERSION = 2

Pads = tuple[tuple[int, int], tuple[int, int]]


def is_available(dtype: jnp.dtype = jnp.float32) -> bool:
  """Whether arrays of a dtype can go to oneDNN on this machine's CPU.

  XLA cannot write a program with such an operation to its compilation cache
  (it fails at it, with luck by an exception), so never where there is one.

  Args:
    dtype: of what goes in and comes out.
  """
  name = jnp.dtype(dtype).name
  return (
    name in _DTYPES
    and os.environ.get('GENRE_FLAX_ONEDNN') != '0'
    and not _has_compilation_cache()
    and _is_in_jaxlib()
    and not onednn_trial.failure(name)
  )


def _has_compilation_cache() -> bool:
  return bool(jax.config.jax_compilation_cache_dir)


def _is_in_jaxlib() -> bool:
  return platform.is_tested_jaxlib()


def describe(dtype: jnp.dtype = jnp.float32) -> str:
  """Whose convolutions networks of a dtype get on this CPU, and why."""
  if is_available(dtype):
    return 'oneDNN'
  if os.environ.get('GENRE_FLAX_ONEDNN') == '0':
    reason = 'GENRE_FLAX_ONEDNN=0'
  elif _has_compilation_cache():
    reason = "programs with oneDNN cannot be kept in JAX's compilation cache"
  elif not _is_in_jaxlib():
    tried = ', '.join(f'{a}.{b}' for a, b in platform.TESTED_JAXLIB)
    reason = f'oneDNN was tried with jaxlib {tried}, not {jaxlib.__version__}'
  else:
    reason = onednn_trial.failure(jnp.dtype(dtype).name)
  return f"XLA's own, which train at about half the speed: {reason}"


def convolution(
  images: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  pads: Pads = ((0, 0), (0, 0)),
  dilation: int = 1,
  bias: jax.Array | None = None,
  activation: str = '',
) -> jax.Array:
  """A convolution, for CPU; it has no gradient of its own.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C / groups, features], of their dtype.
    stride: in both directions.
    pads: zeros above and below, left and right.
    dilation: distance of the kernel's pixels, in both directions.
    bias: [features], of that dtype; what is added to each pixel.
    activation: what is done then; one of ACTIVATIONS.

  Returns:
    [B, out_height, out_width, features], of that dtype; sums are float32.
  """
  batch, *size, channels = images.shape
  *kernel_size, group_channels, features = kernel.shape
  out_size = [
    (side + sum(both) - dilation * (kernel_side - 1) - 1) // stride + 1
    for side, both, kernel_side in zip(size, pads, kernel_size, strict=True)
  ]
  pixels = {'batch_dim': 0, 'feature_dim': 3, 'spatial_dims': [1, 2]}
  settings = {
    'dims': 4,
    'feature_groups': channels // group_channels,
    'input': {'dims': 4, 'data': pixels},
    'output': {'dims': 4, 'data': pixels},
    'kernel': {
      'dims': 4,
      'filter': {
        'input_feature_dim': 2,
        'output_feature_dim': 3,
        'spatial_dims': [0, 1],
      },
    },
    'window': {
      'pad_left': [before for before, _ in pads],
      'pad_right': [after for _, after in pads],
      'strides': [stride] * 2,
      'window_dilations': [dilation] * 2,
    },
    'fusions': {
      'ops': ['BIAS'] * (bias is not None) + ACTIVATIONS[activation],
    },
  }
  return _call(
    _CONVOLUTION,
    {'onednn_conv_config': settings},
    (batch, *out_size, features),
    images.dtype,
    images,
    kernel,
    *([] if bias is None else [bias]),
  )


def matmul(
  a: jax.Array,
  b: jax.Array,
  *,
  transpose_a: bool = False,
  transpose_b: bool = False,
  dtype: jnp.dtype | None = None,
) -> jax.Array:
  """A matrix product, for CPU; it has no gradient of its own.

  Args:
    a: [..., M, K], or [..., K, M] if it is to be transposed.
    b: [..., K, N], or [..., N, K] if it is to be transposed; of its dtype, and
      with as many axes.
    transpose_a: see above.
    transpose_b: see above.
    dtype: of the result; that of `a` where not given.

  Returns:
    [..., M, N]; sums are float32.
  """
  settings = {'transpose_a': transpose_a, 'transpose_b': transpose_b}
  rows = a.shape[-1 if transpose_a else -2]
  columns = b.shape[-2 if transpose_b else -1]
  return _call(
    _MATMUL,
    {'onednn_matmul_config': settings},
    (*a.shape[:-2], rows, columns),
    dtype or a.dtype,
    a,
    b,
  )


def _call(target, settings, shape, dtype, *arrays):
  return jax.ffi.ffi_call(
    target,
    jax.ShapeDtypeStruct(shape, dtype),
    custom_call_api_version=_API_VERSION,
    legacy_backend_config=json.dumps(settings),
    vmap_method='sequential',
  )(*arrays)
