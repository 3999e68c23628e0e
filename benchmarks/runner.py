"""Runs each measurement in its own process."""

from collections.abc import Sequence
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from absl import logging

from benchmarks import libraries
from benchmarks import measurement
from genre_flax.runtime import errors
from genre_flax.runtime import machine
from genre_flax.runtime import platform

_NUM_LAST_LINES = 20


def _environment() -> dict[str, str]:
  """All cores, and no cached compilations."""
  environment = {
    **os.environ,
    'OMP_NUM_THREADS': str(machine.num_cores()),
    'KERAS_BACKEND': 'tensorflow',
    'TF_CPP_MIN_LOG_LEVEL': '2',
    'TORCHINDUCTOR_FORCE_DISABLE_CACHES': '1',
  }
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  return environment


def run(module: str, spec: measurement.Spec) -> dict[str, Any]:
  """Runs a module that calls `measurement.respond`.

  Args:
    module: full name of the module.
    spec: argument of the process.

  Returns:
    The result, and 'peak_memory_gb' of the process, in 10**9 bytes.

  Raises:
    InputError: the config or the dataset cannot be used.
    RuntimeError: the process failed.
  """
  environment = _environment()
  if libraries.HUGE_PAGES in spec.variant:
    environment = platform.with_huge_pages(environment)
  with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
    process = subprocess.Popen(
      [sys.executable, '-m', module, json.dumps(dataclasses.asdict(spec))],
      env=environment,
      stdout=output,
      stderr=log,
    )
    try:
      # Unlike `Popen.wait`, it returns the memory.
      _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
      process.kill()
      raise
    process.returncode = os.waitstatus_to_exitcode(status)
    output.seek(0)
    log.seek(0)
    lines, log_lines = output.read().splitlines(), log.read().splitlines()
  if process.returncode == errors.InputError.exit_status:
    raise errors.InputError(json.loads(lines[-1]))
  if process.returncode:
    last = b'\n'.join(log_lines[-_NUM_LAST_LINES:]).decode(errors='replace')
    raise RuntimeError(
      f'{spec} failed with exit status {process.returncode}:\n{last}'
    )
  bytes_per_unit = 1 if sys.platform == 'darwin' else 1024
  peak = usage.ru_maxrss * bytes_per_unit / 1e9
  return {**json.loads(lines[-1]), 'peak_memory_gb': peak}


def run_all(
  specs: Sequence[measurement.Spec], *, num_repetitions: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
  """Runs all measurements once, then all again, and so on.

  Changes of the machine's speed then affect all libraries.

  Returns:
    The results for `summary.summarize`, with 'library', 'variant',
    'measurement', 'repetition' (from 0) and 'values'; and the reasons of the
    other libraries' failed measurements, such as too little memory.

  Raises:
    RuntimeError: a measurement of genre_flax failed.
  """
  results, failures = [], {}
  for repetition in range(num_repetitions):
    for spec in specs:
      if str(spec) in failures:
        continue
      logging.info(
        'Repetition %d of %d: %s', repetition + 1, num_repetitions, spec
      )
      try:
        values = run(f'benchmarks.measure_{spec.library}', spec)
      except RuntimeError as e:
        if spec.library == libraries.OWN:
          raise
        logging.error('%s', e)
        failures[str(spec)] = str(e)
        continue
      results.append(
        {
          'library': spec.library,
          'variant': spec.variant,
          'measurement': spec.measurement,
          'repetition': repetition,
          'values': values,
        }
      )
  return results, failures
