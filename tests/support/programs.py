"""Runs programs in processes of their own."""

import json
import os
import socket
import subprocess
import sys

from tests.support import paths

# The variable with the folder of compiled programs; see conftest.py.
COMPILED = 'GENRE_FLAX_TESTS_COMPILED'
_RUN_EACH = """
import contextlib, importlib, io, json, sys
from absl.testing import flagsaver
from genre_flax.runtime import command_line
module = importlib.import_module(sys.argv[1])
results = []
for arguments in json.loads(sys.argv[2]):
  sys.argv[:] = ['program', *arguments]
  with (
    flagsaver.flagsaver(),
    contextlib.redirect_stderr(io.StringIO()) as stderr,
  ):
    try:
      command_line.run(module.main)
    except SystemExit as e:
      results.append((e.code, stderr.getvalue()))
print()
print(json.dumps(results))
"""


def free_address():
  """An unused 'host:port' for the first of several processes."""
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return f'localhost:{s.getsockname()[1]}'


def command(module, *arguments, package='genre_flax'):
  # Warnings of libraries are not errors here, as for users.
  return [sys.executable, '-m', f'{package}.{module}', *map(str, arguments)]


def environment(*, num_devices=1, **variables):
  """The settings of conftest.py as environment variables, and others."""
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


def _run(command, timeout, environment):
  return subprocess.run(
    command,
    cwd=paths.ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


def run_code(code, *arguments, timeout=120, **variables):
  """Runs Python code in the environment of the tests; see `run`."""
  words = [sys.executable, '-c', code, *map(str, arguments)]
  return _run(words, timeout, {**os.environ, **variables})


def run(module, *arguments, package='genre_flax', timeout=300, **variables):
  """Runs a program; returns the completed process."""
  words = command(module, *arguments, package=package)
  return _run(words, timeout, environment(**variables))


def run_each(module, argument_lists):
  """Runs the function main of a program several times in one process.

  Returns:
    The exit status and stderr for each list of arguments.
  """
  words = [sys.executable, '-c', _RUN_EACH, f'genre_flax.{module}']
  done = _run([*words, json.dumps(argument_lists)], 240, environment())
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def start(module, *arguments, **variables):
  """Starts a program; its output goes to a pipe."""
  return subprocess.Popen(
    command(module, *arguments),
    cwd=paths.ROOT,
    env=environment(**variables),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
