"""Convolutions by oneDNN, a library of CPU kernels that jaxlib brings along.

XLA has an operation that runs oneDNN's convolution, but its compiler never
chooses it in the jaxlib that is published. Asked for by name it is 1.3 to 2
times faster than XLA's own convolution, forward and to the images, and 2 to 5
times faster than a depthwise one by shifted products (2 cores with AVX-512).

The name and its settings are XLA's own affair and may change with a release,
and a wrong setting ends the process. So it is used only with the releases that
the tests have run on; all others take XLA's own convolutions, with the same
numbers but for rounding. It can be turned off by GENRE_FLAX_ONEDNN=0.
"""

import functools
import json
import os

import jax
import jax.numpy as jnp
import jaxlib

from genre_flax.runtime import platform

_TARGET = '__onednn$convolution'
# jaxlib's first two numbers.
_TRIED_RELEASES = ((0, 10), (0, 11), (0, 12))
# XLA's number for a custom call that gets its settings as text and may fail.
_API_VERSION = 2

Pads = tuple[tuple[int, int], tuple[int, int]]


def is_available(dtype: jnp.dtype = jnp.float32) -> bool:
  """Whether convolutions of a dtype can run by oneDNN on this machine's CPU.

  XLA cannot write a program with such an operation to its compilation cache
  (it fails at it, with luck by an exception), so never where there is one.

  Args:
    dtype: of images and kernel.
  """
  return (
    jnp.dtype(dtype) == jnp.float32
    and os.environ.get('GENRE_FLAX_ONEDNN') != '0'
    and not _has_compilation_cache()
    and _is_in_jaxlib()
  )


def _has_compilation_cache() -> bool:
  return bool(jax.config.jax_compilation_cache_dir)


@functools.cache
def _is_in_jaxlib() -> bool:
  return _is_tried() and platform.is_in_jaxlib(_TARGET)


def _is_tried() -> bool:
  release = tuple(int(n) for n in jaxlib.__version__.split('.')[:2])
  return release in _TRIED_RELEASES


def describe() -> str:
  """Whose convolutions float32 networks get on this CPU, and why."""
  if is_available():
    return 'oneDNN'
  if os.environ.get('GENRE_FLAX_ONEDNN') == '0':
    reason = 'GENRE_FLAX_ONEDNN=0'
  elif _has_compilation_cache():
    reason = "programs with oneDNN cannot be kept in JAX's compilation cache"
  elif not _is_tried():
    tried = ', '.join(f'{a}.{b}' for a, b in _TRIED_RELEASES)
    reason = f'oneDNN was tried with jaxlib {tried}, not {jaxlib.__version__}'
  else:
    reason = 'this jaxlib does not have oneDNN'
  return f"XLA's own, which train at about half the speed: {reason}"


def convolution(
  images: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  pads: Pads = ((0, 0), (0, 0)),
) -> jax.Array:
  """A convolution, for CPU; it has no gradient of its own.

  Args:
    images: float32 [B, H, W, C].
    kernel: float32 [kernel_height, kernel_width, C / groups, features].
    stride: in both directions.
    pads: zeros above and below, left and right.

  Returns:
    float32 [B, out_height, out_width, features].
  """
  batch, *size, channels = images.shape
  *kernel_size, group_channels, features = kernel.shape
  out_size = [
    (side + sum(both) - kernel_side) // stride + 1
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
      'window_dilations': [1, 1],
    },
  }
  return jax.ffi.ffi_call(
    _TARGET,
    jax.ShapeDtypeStruct((batch, *out_size, features), images.dtype),
    custom_call_api_version=_API_VERSION,
    legacy_backend_config=json.dumps({'onednn_conv_config': settings}),
  )(images, kernel)
