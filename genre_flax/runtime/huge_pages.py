"""Huge pages for the big arrays of a program on Linux.

XLA's CPU backend asks for the memory of a step anew at each step. In pages of
4 KiB the system spends a tenth to a third of the step on handing them out; in
pages of 2 MiB, next to nothing. glibc asks for huge ones where a variable that
it reads at the start of a process says so.
"""

import os
import pathlib
import re
import sys

_VARIABLE = 'GLIBC_TUNABLES'
_TUNABLE = 'glibc.malloc.hugetlb'
# The first release that has the tunable.
_GLIBC = (2, 35)
_SETTING = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


def restart_with_huge_pages() -> None:
  """Starts this program again, with huge pages; call it first of all.

  Does nothing where they are not to be had, where every program has them, and
  where GLIBC_TUNABLES names the tunable already: `glibc.malloc.hugetlb=0` turns
  it off. The process keeps its number, its files and its terminal.
  """
  environment = with_huge_pages(os.environ)
  if environment.get(_VARIABLE) != os.environ.get(_VARIABLE):
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def with_huge_pages(environment: dict[str, str]) -> dict[str, str]:
  """An environment in which a program gets huge pages, where it can."""
  environment = dict(environment)
  tunables = environment.get(_VARIABLE, '')
  if _TUNABLE not in tunables and _are_for_those_who_ask():
    asked = f'{_TUNABLE}=1'
    environment[_VARIABLE] = f'{tunables}:{asked}' if tunables else asked
  return environment


def _are_for_those_who_ask() -> bool:
  """Whether this is a system whose programs get huge pages if they ask."""
  try:
    version = os.confstr('CS_GNU_LIBC_VERSION') or ''
    setting = _SETTING.read_text()
  except (AttributeError, OSError, ValueError):  # Not Linux, or not glibc.
    return False
  match = re.fullmatch(r'glibc (\d+)\.(\d+).*', version)
  return (
    match is not None
    and (int(match[1]), int(match[2])) >= _GLIBC
    and '[madvise]' in setting
  )
