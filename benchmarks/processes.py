"""Runs each measurement in a process of its own."""

from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import logging

from benchmarks import child
from benchmarks import contenders
from genre_flax.runtime import errors
from genre_flax.runtime import machine
from genre_flax.runtime import platform

_QUICKSTART = (
  pathlib.Path(__file__).parent.parent.parent / 'configs' / 'quickstart.py'
)
_NUM_LAST_LINES = 20


def _environment():
  """The same for all: every core, and no program compiled earlier."""
  environment = {
    **os.environ,
    'OMP_NUM_THREADS': str(machine.num_cores()),
    'KERAS_BACKEND': 'tensorflow',
    'TF_CPP_MIN_LOG_LEVEL': '2',
    'TORCHINDUCTOR_FORCE_DISABLE_CACHES': '1',
  }
  environment.pop('JAX_COMPILATION_CACHE_DIR', None)
  return environment


def run(module: str, spec: child.Spec) -> dict[str, Any]:
  """Runs a module that calls `child.answer`.

  Args:
    module: its whole name.
    spec: what it is told.

  Returns:
    Its result, and 'peak_memory_gb' of its process, in 10**9 bytes.

  Raises:
    InputError: the config or the data set does not fit.
    RuntimeError: it failed.
  """
  told = json.dumps(dataclasses.asdict(spec))
  environment = _environment()
  if contenders.HUGE_PAGES in spec.variant:
    environment = platform.with_huge_pages(environment)
  with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
    process = subprocess.Popen(
      [sys.executable, '-m', module, told],
      env=environment,
      stdout=output,
      stderr=log,
    )
    try:
      # Not by `wait`, which does not tell the memory.
      _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
      process.kill()
      raise
    process.returncode = os.waitstatus_to_exitcode(status)
    output.seek(0)
    log.seek(0)
    lines, logged = output.read().splitlines(), log.read().decode().strip()
  if process.returncode == child.INPUT_ERROR_STATUS:
    raise errors.InputError(json.loads(lines[-1]))
  if process.returncode:
    last = '\n'.join(logged.splitlines()[-_NUM_LAST_LINES:])
    raise RuntimeError(
      f'{spec.contender} ({spec.variant}), {spec.measurement}: the process'
      f' ended with status {process.returncode}:\n{last}'
    )
  bytes_per_unit = 1 if sys.platform == 'darwin' else 1024
  return {
    **json.loads(lines[-1]),
    'peak_memory_gb': usage.ru_maxrss * bytes_per_unit / 1e9,
  }


def time_quickstart() -> dict[str, Any]:
  """Seconds from the quickstart's command to its first line with a loss.

  Raises:
    RuntimeError: it ended without.
  """
  started = time.perf_counter()
  with (
    tempfile.TemporaryDirectory(prefix='genre_flax_') as workdir,
    subprocess.Popen(
      [
        *(sys.executable, '-m', 'genre_flax.main', f'--config={_QUICKSTART}'),
        *(f'--workdir={workdir}', '--compilation_cache_dir='),
      ],
      env=_environment(),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    ) as process,
  ):
    lines = []
    try:
      for line in process.stderr:
        lines.append(line)
        if ' loss ' in line:
          return {'seconds': time.perf_counter() - started}
    finally:
      process.kill()
  raise RuntimeError(
    'The quickstart ended without a loss:\n' + ''.join(lines[-_NUM_LAST_LINES:])
  )


def run_in_turn(
  specs: Sequence[child.Spec], *, repetitions: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
  """Measures everything once, then everything again, and so on.

  So a machine that becomes slower does so for all contenders.

  Args:
    specs: of everything.
    repetitions: how often.

  Returns:
    For `report.summarize`: 'contender', 'variant', 'measurement', 'repetition'
    (from 0) and 'values'. And what of the peers failed, which memory may do to
    them, with the reason.

  Raises:
    RuntimeError: a process of genre_flax failed.
  """
  results, failed = [], {}
  for repetition in range(repetitions):
    for spec in specs:
      name = f'{spec.contender} ({spec.variant}), {spec.measurement}'
      if name in failed:
        continue
      logging.info('Repetition %d of %d: %s', repetition + 1, repetitions, name)
      try:
        if spec.measurement == 'quickstart':
          values = time_quickstart()
        else:
          values = run(contenders.module(spec.contender), spec)
      except RuntimeError as e:
        if spec.contender == contenders.OWN:
          raise
        logging.error('%s', e)
        failed[name] = str(e)
        continue
      results.append(
        {
          'contender': spec.contender,
          'variant': spec.variant,
          'measurement': spec.measurement,
          'repetition': repetition,
          'values': values,
        }
      )
  return results, failed
