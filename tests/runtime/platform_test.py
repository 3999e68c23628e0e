import json
import os
import subprocess
import sys

import pytest

from genre_flax.runtime import errors
from genre_flax.runtime import platform
from tests.support import paths


def run_python(code, *arguments, **environment):
  result = subprocess.run(
    [sys.executable, '-c', code, *map(str, arguments)],
    cwd=paths.ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', **environment},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return result.stdout


CONFIGURE = """
from genre_flax.runtime import platform
platform.configure({arguments})
import os, jax, jax.numpy as jnp
print(os.environ['XLA_FLAGS'])
print(jax.jit(lambda x: jnp.sin(x).sum())(jnp.ones(8)))
"""


def configure(flags, arguments=''):
  code = CONFIGURE.format(arguments=arguments)
  return run_python(code, XLA_FLAGS=flags).splitlines()


def test_flags_are_added_to_those_of_the_user_and_known_to_xla():
  own = '--xla_cpu_enable_fast_math=false'
  flags, value = configure(own)
  assert flags == f'{own} --xla_cpu_experimental_ynn_fusion_type='
  fast_flags, fast_value = configure('', 'fast_compilation=True')
  assert 'optimization_level=0' in fast_flags
  assert float(value) == pytest.approx(float(fast_value))


def test_a_flag_of_the_user_is_kept():
  own = '--xla_cpu_experimental_ynn_fusion_type=invalid'
  assert configure(own)[0] == own


def test_an_untested_jaxlib_gets_no_flags(monkeypatch):
  monkeypatch.setattr(platform.jaxlib, '__version__', '0.99.1')
  monkeypatch.setenv('XLA_FLAGS', '')
  platform.configure(fast_compilation=True)
  assert os.environ['XLA_FLAGS'] == ''


@pytest.mark.parametrize(
  'setting, tunables, expected',
  [
    ('always [madvise] never', '', 'glibc.malloc.hugetlb=1'),
    ('[always] madvise never', '', ''),
    ('always madvise [never]', '', ''),
    (
      'always [madvise] never',
      'glibc.malloc.arena_max=1',
      'glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1',
    ),
    (
      'always [madvise] never',
      'glibc.malloc.hugetlb=0',
      'glibc.malloc.hugetlb=0',
    ),
  ],
)
def test_huge_pages_are_requested_where_necessary(
  tmp_path, monkeypatch, setting, tunables, expected
):
  (tmp_path / 'enabled').write_text(setting)
  monkeypatch.setattr(platform, '_HUGE_PAGES_SETTING', tmp_path / 'enabled')
  environment = platform.with_huge_pages({'GLIBC_TUNABLES': tunables})
  assert environment == {'GLIBC_TUNABLES': expected}


def test_a_restarted_program_has_the_same_process_and_arguments(tmp_path):
  code = (
    'import json, os, pathlib, sys\n'
    'from genre_flax.runtime import platform\n'
    f'platform._HUGE_PAGES_SETTING = pathlib.Path({str(tmp_path / "on")!r})\n'
    'print(os.getpid(), flush=True)\n'
    'platform.restart_with_huge_pages()\n'
    'print(json.dumps([sys.argv[1:], os.environ["GLIBC_TUNABLES"]]))\n'
  )
  (tmp_path / 'on').write_text('always [madvise] never')
  arguments = ['--a=b c', "it's"]
  output = run_python(code, *arguments, GLIBC_TUNABLES='')
  first, second, last = output.splitlines()
  assert first == second
  assert json.loads(last) == [arguments, 'glibc.malloc.hugetlb=1']


@pytest.mark.parametrize(
  'program', ['main', 'top3', 'report', 'demo.__main__', 'export.__main__']
)
def test_programs_do_not_import_jax_before_they_restart(program):
  code = f'import genre_flax.{program}, sys; print("jax" in sys.modules)'
  assert run_python(code).strip() == 'False'


CACHED = """
from genre_flax.runtime import platform
platform.configure()
import sys, jax, jax.numpy as jnp
from genre_flax.ops.cpu import onednn
uses_onednn = onednn.is_available()
platform.use_compilation_cache(sys.argv[1], on_cpu=not uses_onednn)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.jit(lambda x: jnp.sin(x).sum())(jnp.ones(8)).block_until_ready()
print(uses_onednn, jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize(
  ('name', 'value', 'expected'),
  [
    ('GENRE_FLAX_ONEDNN', '0', 'compiled'),
    ('JAX_COMPILATION_CACHE_DIR', '{}/own', 'own'),
    ('GENRE_FLAX_ONEDNN', '', 'compiled'),
  ],
)
def test_compiled_programs_are_stored(tmp_path, name, value, expected):
  variable = {name: value.format(tmp_path)}
  output = run_python(CACHED, tmp_path / 'compiled', **variable)
  uses_onednn, folder = output.split()
  if uses_onednn == 'True':  # Such programs cannot be stored.
    assert folder == 'None'
    assert not list(tmp_path.iterdir())
  else:
    assert folder == str(tmp_path / expected)
    assert any((tmp_path / expected).iterdir())


def test_an_incomplete_set_of_process_variables_is_refused(monkeypatch):
  monkeypatch.setenv('JAX_COORDINATOR_ADDRESS', 'localhost:1234')
  with pytest.raises(
    errors.InputError, match='JAX_NUM_PROCESSES, JAX_PROCESS_ID not set'
  ):
    platform.initialize_distributed()
