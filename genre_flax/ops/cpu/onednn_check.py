"""Whether oneDNN's operations work on this CPU, tried in another process.

What a release or a CPU does not know may end the process that asks for it. So
another one tries, once for each jaxlib, CPU and dtype; its verdict is kept in
the user's cache folder, unless it was kept from one.
"""

import functools
import hashlib
import os
import pathlib
import platform as machine
import signal
import subprocess
import sys

from absl import logging
import jaxlib

from genre_flax.runtime import files
from genre_flax.runtime import platform

_TIMEOUT_SECONDS = 120
_WORKS = 'works'
# That end a process from outside, whatever it does.
_FROM_OUTSIDE = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)


@functools.cache
def failure(dtype: str) -> str:
  """Why oneDNN's operations are not to be used, or '' where they work.

  Args:
    dtype: 'float32' or 'bfloat16'.
  """
  if dtype == 'bfloat16' and not _has_bfloat16():
    # oneDNN would imitate it, and does not always come back from it.
    return 'this CPU has no instructions for bfloat16 (AVX-512 BF16 or AMX)'
  path = _path(dtype)
  try:
    verdict = path.read_text(errors='replace')
  except OSError:
    verdict = ''
  if not verdict:
    verdict, is_final = _try_elsewhere(dtype)
    if is_final:
      _keep(verdict, path)
  return '' if verdict == _WORKS else verdict


def _has_bfloat16() -> bool:
  flags = ' '.join(_cpu()).split()
  return 'avx512_bf16' in flags or 'amx_bf16' in flags


def _path(dtype: str) -> pathlib.Path:
  key = hashlib.sha256(str(_cpu()).encode()).hexdigest()[:16]
  name = f'jaxlib{jaxlib.__version__}_{dtype}_{key}.txt'
  return files.cache_dir() / 'onednn' / name


def _cpu() -> list[str]:
  """What names the CPU and what it can, line by line."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    return [machine.machine(), machine.processor()]
  names = ('model name', 'flags', 'Features')
  return sorted({line for line in lines if line.startswith(names)})


def _try_elsewhere(dtype: str) -> tuple[str, bool]:
  """_WORKS, or what went wrong; and whether it would always come to that."""
  try:
    done = subprocess.run(
      [sys.executable, '-m', __name__, dtype],
      # Without what would keep the process from trying it on a CPU.
      env={
        **{k: v for k, v in os.environ.items() if not k.startswith('JAX_')},
        'JAX_PLATFORMS': 'cpu',
      },
      capture_output=True,
      text=True,
      timeout=_TIMEOUT_SECONDS,
      check=False,
    )
  except (OSError, subprocess.TimeoutExpired) as e:
    return (
      f'a trial of oneDNN in {dtype} did not end: {type(e).__name__}',
      False,
    )
  if done.returncode:
    lines = done.stderr.strip().splitlines()
    why = lines[-1] if lines else f'exit code {done.returncode}'
    verdict = f'a trial of oneDNN in {dtype} failed on this CPU: {why}'
    return verdict, -done.returncode not in _FROM_OUTSIDE
  return _WORKS, True


def _keep(verdict: str, path: pathlib.Path) -> None:
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, verdict)
  except OSError as e:
    logging.warning('The verdict on oneDNN cannot be kept at %s: %s', path, e)


def _try_here(dtype: str) -> None:
  """Compares each operation to NumPy's; an exception says what is wrong."""
  import jax
  import numpy as np

  from genre_flax.ops.cpu import onednn

  def assert_close(got, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(
      np.asarray(got, np.float32) / scale, expected / scale, atol=0.01
    )

  draw = np.random.default_rng(0).standard_normal
  images, kernel = draw((2, 9, 8, 16)), draw((3, 3, 16, 32))
  a, b = draw((2, 33, 48)), draw((2, 48, 20))
  x, k, p, q = (jax.numpy.asarray(v, dtype) for v in (images, kernel, a, b))
  windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), (1, 2))
  assert_close(
    jax.jit(onednn.convolution)(x, k),
    np.einsum('bhwcij,ijcf->bhwf', windows, kernel),
  )
  each = draw((3, 3, 1, 16))
  pads = ((1, 1), (1, 1))
  depthwise = functools.partial(onednn.convolution, pads=pads, stride=2)
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(images, ((0, 0), *pads, (0, 0))), (3, 3), (1, 2)
  )[:, ::2, ::2]
  assert_close(
    jax.jit(depthwise)(x, jax.numpy.asarray(each, dtype)),
    np.einsum('bhwcij,ijc->bhwc', windows, each[:, :, 0]),
  )
  assert_close(jax.jit(onednn.matmul)(p, q), a @ b)
  transposed = functools.partial(
    onednn.matmul, transpose_a=True, transpose_b=True
  )
  assert_close(jax.jit(transposed)(p.swapaxes(1, 2), q.swapaxes(1, 2)), a @ b)


if __name__ == '__main__':
  platform.configure()
  _try_here(sys.argv[1])
