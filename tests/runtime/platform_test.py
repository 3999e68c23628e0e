import os
import subprocess
import sys

import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import platform


def test_a_flag_of_this_jaxlib_is_known_and_an_invented_one_is_not():
  assert platform.is_in_jaxlib('xla_cpu_enable_fast_math')
  assert not platform.is_in_jaxlib('xla_cpu_no_such_flag_exists')
  assert not platform.is_in_jaxlib('xla_cpu_enable_fast_mat')


def run_python(code, **environment):
  return subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment},
    capture_output=True,
    text=True,
    check=False,
  )


def test_flags_are_set_before_a_backend_starts_and_are_accepted():
  result = run_python(
    'from genre_flax.runtime import platform; platform.configure();'
    'import os, jax.numpy as jnp; print(os.environ["XLA_FLAGS"], jnp.ones(2))',
    XLA_FLAGS='--xla_cpu_enable_fast_math=false',
  )
  assert result.returncode == 0, result.stderr
  assert '--xla_cpu_enable_fast_math=false' in result.stdout
  assert '[1. 1.]' in result.stdout


def test_a_program_that_is_soon_over_is_compiled_quickly():
  results = {}
  for arguments in ('', 'compile_quickly=True'):
    result = run_python(
      'from genre_flax.runtime import platform;'
      f'platform.configure({arguments});'
      'import os, jax, jax.numpy as jnp; print(os.environ["XLA_FLAGS"]);'
      'print(jax.jit(lambda x: jnp.sin(x).sum())(jnp.ones(8)))',
      XLA_FLAGS='',
    )
    assert result.returncode == 0, result.stderr
    flags, results[arguments] = result.stdout.splitlines()
    assert ('optimization_level=0' in flags) == bool(arguments)
  assert float(results['']) == pytest.approx(float(results[arguments]))


@pytest.mark.parametrize('program', ['main', 'top3', 'demo'])
def test_jax_is_not_there_before_a_program_can_start_itself_again(program):
  result = run_python(
    f'import genre_flax.{program}, sys; print("jax" in sys.modules)'
  )
  assert result.stdout.strip() == 'False', result.stderr


def test_a_flag_of_the_user_wins():
  flag = '--xla_cpu_experimental_ynn_fusion_type=invalid'
  result = run_python(
    'from genre_flax.runtime import platform; platform.configure();'
    'import os; print(os.environ["XLA_FLAGS"])',
    XLA_FLAGS=flag,
  )
  assert result.stdout.strip() == flag


@pytest.mark.parametrize(
  'given, expected', [('', 'cpu'), ('cpu,tpu', 'cpu,tpu')]
)
def test_a_tpu_library_is_not_asked_on_a_machine_without_tpus(
  tmp_path, given, expected
):
  (tmp_path / 'libtpu.py').write_text(
    'def get_library_path():\n  return "nothing.so"\n'
  )
  result = run_python(
    'from genre_flax.runtime import platform; platform.configure();'
    'import jax; print(jax.config.jax_platforms)',
    PYTHONPATH=str(tmp_path),
    JAX_PLATFORMS=given,
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == expected


def test_some_but_not_all_process_variables_are_refused(monkeypatch):
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'localhost:1234')
  with pytest.raises(
    errors.InputError, match='JAX_NUM_PROCESSES, JAX_PROCESS_ID are not set'
  ):
    platform.initialize_distributed()


def test_caches_are_in_the_users_cache_folder(monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', 'somewhere')
  folder = platform.default_cache_dir()
  assert folder.parts == ('somewhere', 'genre_flax')
