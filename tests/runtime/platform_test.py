import json
import os

import pytest

from genre_flax.runtime import platform
from tests.support import programs


def run_python(code, *arguments, **variables):
  variables = {'JAX_PLATFORMS': 'cpu', **variables}
  result = programs.run_code(code, *arguments, **variables)
  assert result.returncode == 0, result.stderr
  return result.stdout


ON_REQUEST = 'always [madvise] never'
CONFIGURE = """
import sys
from genre_flax.runtime import platform
platform.configure(fast_compilation=len(sys.argv) > 1)
import os, jax, jax.numpy as jnp
print(os.environ['XLA_FLAGS'])
print(jax.jit(lambda x: jnp.sin(x).sum())(jnp.ones(8)))
"""


def test_added_flags_are_known_to_xla():
  own = '--xla_cpu_enable_fast_math=false'
  flags, value = run_python(CONFIGURE, XLA_FLAGS=own).splitlines()
  assert flags == f'{own} --xla_cpu_experimental_ynn_fusion_type='
  fast = run_python(CONFIGURE, 'fast', XLA_FLAGS='')
  fast_flags, fast_value = fast.splitlines()
  assert 'optimization_level=0' in fast_flags
  assert float(value) == pytest.approx(float(fast_value))


@pytest.mark.parametrize(
  ('version', 'flags'),
  [('0.99.1', ''), ('0.10.0', '--xla_cpu_experimental_ynn_fusion_type=x')],
)
def test_no_flags_for_an_untested_jaxlib_or_over_those_of_the_user(
  monkeypatch, version, flags
):
  monkeypatch.setattr(platform.jaxlib, '__version__', version)
  monkeypatch.setenv('XLA_FLAGS', flags)
  platform.configure()
  assert os.environ['XLA_FLAGS'] == flags


@pytest.mark.parametrize(
  'setting, tunables, expected',
  [
    (ON_REQUEST, '', 'glibc.malloc.hugetlb=1'),
    (ON_REQUEST, 'x=1', 'x=1:glibc.malloc.hugetlb=1'),
    (ON_REQUEST, 'glibc.malloc.hugetlb=0', 'glibc.malloc.hugetlb=0'),
    ('[always] madvise never', '', ''),
    ('always madvise [never]', '', ''),
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
  (tmp_path / 'on').write_text(ON_REQUEST)
  arguments = ['--a=b c', "it's"]
  output = run_python(code, *arguments, GLIBC_TUNABLES='')
  first, second, last = output.splitlines()
  assert first == second
  assert json.loads(last) == [arguments, 'glibc.malloc.hugetlb=1']


def test_programs_do_not_import_jax_before_they_restart():
  for program in ('main', 'top3', 'report', 'demo.__main__', 'export.__main__'):
    code = f'import genre_flax.{program}, sys; print("jax" in sys.modules)'
    assert run_python(code).strip() == 'False', program


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
