"""Facts about the machine and the installed packages, for logs and reports."""

from collections.abc import Iterable
import importlib.metadata
import os
import pathlib
import platform
import resource
import subprocess
import sys


def processor() -> str:
  """The name of the CPU."""
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  if cpuinfo.exists():
    for line in cpuinfo.read_text().splitlines():
      if line.startswith('model name'):
        return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()


def num_cores() -> int:
  """The number of CPU cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def peak_memory_gb() -> float:
  """Peak memory of this process so far, in 10**9 bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak * (1 if sys.platform == 'darwin' else 1024) / 1e9


def versions(packages: Iterable[str]) -> dict[str, str]:
  """Versions of Python and of those packages that are installed."""
  found = {'python': platform.python_version()}
  for package in packages:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def commit(folder: pathlib.Path) -> str | None:
  """The git commit of a folder, with '-dirty' for uncommitted changes.

  None for a folder of which git tracks no file, or without git.
  """
  described = None
  for arguments in (
    ('ls-files', '--error-unmatch', '.'),
    ('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'),
  ):
    try:
      described = subprocess.run(
        ['git', '--no-optional-locks', '-C', str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
      ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
      return None
  return described
