"""What a program runs on, for people to read beside its numbers."""

from collections.abc import Iterable
import importlib.metadata
import os
import pathlib
import platform


def processor() -> str:
  """The name of the CPU."""
  cpuinfo = pathlib.Path('/proc/cpuinfo')
  if cpuinfo.exists():
    for line in cpuinfo.read_text().splitlines():
      if line.startswith('model name'):
        return line.split(':', 1)[1].strip()
  return platform.processor() or platform.machine()


def num_cores() -> int:
  """CPU cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def versions(packages: Iterable[str]) -> dict[str, str]:
  """Of Python, and of those packages that are installed."""
  found = {'python': platform.python_version()}
  for package in packages:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found
