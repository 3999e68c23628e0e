"""Convolutions and matrix products by oneDNN, whose kernels jaxlib includes.

XLA has custom calls to oneDNN, which its compiler does not use in published
builds of jaxlib. Called directly, convolutions are 1.3 to 2 times faster than
XLA's, and depthwise ones 2 to 5 times (2 cores with AVX-512). In bfloat16 with
AMX, convolutions and matrix products are 4 to 8 times faster.

The custom calls and their settings are internal to XLA and may change with a
release, and a wrong setting aborts the process. Hence they are used only with
tested releases of jaxlib, and only after `onednn_check` has passed on this CPU,
in another process, once. Otherwise, and with GENRE_FLAX_ONEDNN=0, XLA's own
operations compute the same values up to rounding.
"""

import functools
import hashlib
import json
import os
import pathlib
import platform as platform_lib
import signal
import subprocess
import sys

from absl import logging
import jax
import jax.numpy as jnp
import jaxlib

from genre_flax.runtime import files
from genre_flax.runtime import platform

_CONVOLUTION, _MATMUL = '__onednn$convolution', '__onednn$matmul'
_DTYPES = ('float32', 'bfloat16')
# oneDNN's names of the activations that can follow a convolution.
_ACTIVATIONS = {'': [], 'relu': ['RELU'], 'relu6': ['RELU6']}
# XLA's version of custom calls whose settings are a string and that may fail.
_API_VERSION = 2
_CHECK = 'genre_flax.ops.cpu.onednn_check'
_CHECK_TIMEOUT_SECONDS = 120
_PASSED = 'works'
# Signals that end a process from outside, unlike SIGILL or SIGSEGV.
_EXTERNAL_SIGNALS = (
  signal.SIGHUP,
  signal.SIGINT,
  signal.SIGKILL,
  signal.SIGTERM,
)

Pads = tuple[tuple[int, int], tuple[int, int]]


def is_available(dtype: jnp.dtype = jnp.float32) -> bool:
  """Whether oneDNN can compute in a dtype on this machine's CPU."""
  return not _reason_against(dtype)


def describe(dtype: jnp.dtype = jnp.float32) -> str:
  """The library of convolutions in a dtype on this CPU, with the reason."""
  reason = _reason_against(dtype)
  if not reason:
    return 'oneDNN'
  return f'XLA, about half the training speed of oneDNN: {reason}'


def _reason_against(dtype) -> str:
  """Why oneDNN cannot be used, or ''."""
  name = jnp.dtype(dtype).name
  if name not in _DTYPES:
    return f'{name} is none of {", ".join(_DTYPES)}'
  if os.environ.get('GENRE_FLAX_ONEDNN') == '0':
    return 'GENRE_FLAX_ONEDNN=0'
  if not platform.is_tested_jaxlib():
    tested = ', '.join(f'{a}.{b}' for a, b in platform.TESTED_JAXLIB)
    return f'tested with jaxlib {tested}, not {jaxlib.__version__}'
  if jax.config.jax_compilation_cache_dir:
    # XLA fails to serialize a program with these calls, sometimes by a crash.
    return "JAX's compilation cache cannot store programs with oneDNN"
  return check_failure(name)


@functools.cache
def check_failure(dtype: str) -> str:
  """Why `onednn_check` fails on this CPU, or '' if it passes.

  The result is stored in the user's cache folder, per jaxlib, CPU and dtype.

  Args:
    dtype: 'float32' or 'bfloat16'.
  """
  cpu = _cpu_description()
  flags = ' '.join(cpu).split()
  if dtype == 'bfloat16' and not {'avx512_bf16', 'amx_bf16'} & {*flags}:
    # oneDNN emulates bfloat16 otherwise, and sometimes hangs.
    return 'this CPU has no bfloat16 instructions (AVX-512 BF16 or AMX)'
  key = hashlib.sha256(str(cpu).encode()).hexdigest()[:16]
  path = (
    files.cache_dir()
    / 'onednn'
    / f'jaxlib{jaxlib.__version__}_{dtype}_{key}.txt'
  )
  try:
    result = path.read_text(errors='replace')
  except OSError:
    result = ''
  if not result:
    result, is_final = _run_check(dtype)
    if is_final:
      _store(result, path)
  return '' if result == _PASSED else result


def _cpu_description() -> list[str]:
  """Model and instruction sets of the CPU."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return [platform_lib.machine(), platform_lib.processor()]
  names = ('model name', 'flags', 'Features')
  return sorted({line for line in lines if line.startswith(names)})


def _run_check(dtype: str) -> tuple[str, bool]:
  """The result of the check, and whether every run would have the same."""
  # JAX's own variables could move the check to another platform.
  env = {k: v for k, v in os.environ.items() if not k.startswith('JAX_')}
  try:
    done = subprocess.run(
      [sys.executable, '-m', _CHECK, dtype],
      env={**env, 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
      timeout=_CHECK_TIMEOUT_SECONDS,
      check=False,
    )
  except (OSError, subprocess.TimeoutExpired) as e:
    return f'the check in {dtype} did not finish: {type(e).__name__}', False
  if not done.returncode:
    return _PASSED, True
  lines = done.stderr.strip().splitlines()
  reason = lines[-1] if lines else f'exit code {done.returncode}'
  is_final = -done.returncode not in _EXTERNAL_SIGNALS
  return f'the check in {dtype} failed: {reason}', is_final


def _store(result: str, path: pathlib.Path) -> None:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result)
  except OSError as e:
    logging.warning('The oneDNN check result cannot be stored: %s', e)


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
  """Convolution for CPU, without a gradient. All arrays have one dtype.

  Args:
    images: [B, H, W, C].
    kernel: [kernel_height, kernel_width, C / groups, features].
    stride: in both directions.
    pads: zeros as ((top, bottom), (left, right)).
    dilation: of the kernel, in both directions.
    bias: [features], added to each pixel.
    activation: '', 'relu' or 'relu6', applied last.

  Returns:
    [B, out_height, out_width, features], accumulated in float32.
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
      'ops': ['BIAS'] * (bias is not None) + _ACTIVATIONS[activation],
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
  """Matrix product for CPU, without a gradient. Both arrays have one dtype.

  Args:
    a: [..., M, K], or [..., K, M] with `transpose_a`.
    b: [..., K, N], or [..., N, K] with `transpose_b`.
    transpose_a: whether to transpose `a`.
    transpose_b: whether to transpose `b`.
    dtype: of the result, by default that of `a`.

  Returns:
    [..., M, N], accumulated in float32.
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
