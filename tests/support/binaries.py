"""Runs the binaries as a user does, in processes of their own."""

import os
import socket
import subprocess
import sys

from tests.support import paths

# The variable that names the folder of compiled programs, of conftest.py.
COMPILED = 'GENRE_FLAX_TESTS_COMPILED'


def free_address():
  """An address for the first of several processes, 'host:port'."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return f'localhost:{s.getsockname()[1]}'


def command(module, *arguments):
  # The warnings of the libraries are what a user sees; ours would fail here.
  return [sys.executable, '-m', f'genre_flax.{module}', *map(str, arguments)]


def environment(*, num_devices=1, **variables):
  # What conftest.py has set, and what it says to JAX in another way.
  flags = [
    os.environ['XLA_FLAGS'],
    f'--xla_force_host_platform_device_count={num_devices}',
  ]
  return {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': ' '.join(flags),
    'JAX_COMPILATION_CACHE_DIR': os.environ[COMPILED],
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    **{name: str(value) for name, value in variables.items()},
  }


def run(module, *arguments, num_devices=1, timeout=240, **variables):
  """Runs a binary to its end; returns the completed process."""
  return subprocess.run(
    command(module, *arguments),
    cwd=paths.ROOT,
    env=environment(num_devices=num_devices, **variables),
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


def start(module, *arguments, **variables):
  """Starts a binary; its output goes to a pipe."""
  return subprocess.Popen(
    command(module, *arguments),
    cwd=paths.ROOT,
    env=environment(**variables),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
