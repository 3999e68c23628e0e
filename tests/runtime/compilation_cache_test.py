import os
import subprocess
import sys

import pytest

from genre_flax.ops.cpu import onednn

PROGRAM = """
from genre_flax.runtime import compilation_cache, platform
platform.configure()
import sys, jax, jax.numpy as jnp
from genre_flax.ops.cpu import onednn
compilation_cache.keep_compiled_programs(
  sys.argv[1], on_cpu=not onednn.is_available())
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
from genre_flax.ops import ops
convolve = jax.jit(lambda x, k: ops.conv(x, k, padding='VALID'))
convolve(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4))).block_until_ready()
print(jax.config.jax_compilation_cache_dir)
"""


def run(folder, **variables):
  return subprocess.run(
    [sys.executable, '-W', 'error::UserWarning', '-c', PROGRAM, str(folder)],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **variables},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.strip()


def test_compiled_programs_are_kept(tmp_path):
  folder = tmp_path / 'compiled'
  assert run(folder, GENRE_FLAX_ONEDNN='0') == str(folder)
  assert any(
    'convolve' in f.name or 'lambda' in f.name for f in folder.iterdir()
  )


def test_the_setting_of_jax_wins(tmp_path):
  # Then convolutions are XLA's own, which can be kept.
  mine = tmp_path / 'mine'
  told = run(tmp_path / 'compiled', JAX_COMPILATION_CACHE_DIR=str(mine))
  assert told == str(mine)
  assert any(mine.iterdir())


def test_programs_with_onednn_are_not_kept(tmp_path):
  if onednn.check_failure('float32'):
    pytest.skip('oneDNN is not used with this jaxlib, or on this machine')
  assert run(tmp_path / 'compiled') == 'None'
  assert not (tmp_path / 'compiled').exists()


def test_no_folder_is_nowhere(tmp_path):
  assert run('') == 'None'
