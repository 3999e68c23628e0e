import json
import os
import subprocess
import sys

import pytest

from genre_flax.runtime import huge_pages
from tests.support import paths


@pytest.fixture(params=['madvise', 'always', 'never'])
def setting(request, monkeypatch, tmp_path):
  """A system of each kind, with a glibc that is new enough."""
  file = tmp_path / 'enabled'
  kinds = ['always', 'madvise', 'never']
  file.write_text(
    ' '.join(f'[{kind}]' if kind == request.param else kind for kind in kinds)
  )
  monkeypatch.setattr(huge_pages, '_SETTING', file)
  monkeypatch.setattr(os, 'confstr', lambda _: 'glibc 2.36')
  return request.param


def test_huge_pages_are_asked_for_where_that_is_needed(setting):
  environment = huge_pages.with_huge_pages({'A': 'b'})
  asked = {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}
  assert environment == {'A': 'b', **(asked if setting == 'madvise' else {})}


@pytest.mark.parametrize(
  'given, expected',
  [
    ('glibc.malloc.hugetlb=0', 'glibc.malloc.hugetlb=0'),
    (
      'glibc.malloc.arena_max=1',
      'glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1',
    ),
  ],
)
@pytest.mark.parametrize('setting', ['madvise'], indirect=True)
def test_what_the_user_set_is_kept(setting, given, expected):
  environment = huge_pages.with_huge_pages({'GLIBC_TUNABLES': given})
  assert environment['GLIBC_TUNABLES'] == expected


@pytest.mark.parametrize('version', ['glibc 2.31', 'musl 1.2', '', None])
@pytest.mark.parametrize('setting', ['madvise'], indirect=True)
def test_other_systems_are_left_alone(setting, monkeypatch, version):
  monkeypatch.setattr(os, 'confstr', lambda _: version)
  assert huge_pages.with_huge_pages({}) == {}


def test_a_program_is_the_same_after_the_restart(tmp_path):
  program = (
    'import json, os, pathlib, sys\n'
    'from genre_flax.runtime import huge_pages\n'
    f'huge_pages._SETTING = pathlib.Path({str(tmp_path / "enabled")!r})\n'
    'os.confstr = lambda _: "glibc 2.36"\n'
    'print(os.getpid(), flush=True)\n'
    'huge_pages.restart_with_huge_pages()\n'
    'print(json.dumps([sys.argv[1:], os.environ["GLIBC_TUNABLES"]]))\n'
  )
  (tmp_path / 'enabled').write_text('always [madvise] never')
  environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  arguments = ['--a=b c', "it's"]
  result = subprocess.run(
    [sys.executable, '-X', 'dev', '-c', program, *arguments],
    cwd=paths.ROOT,
    env=environment,
    capture_output=True,
    text=True,
    check=True,
  )
  first, second, told = result.stdout.splitlines()
  assert first == second
  assert json.loads(told) == [arguments, 'glibc.malloc.hugetlb=1']
