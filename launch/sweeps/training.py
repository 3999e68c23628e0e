"""Processes of a sweep, and the failures and metrics of a training."""

from collections.abc import Callable, Sequence
import ctypes
import json
import re
import signal
import subprocess
import sys
import time
from typing import Any

from etils import epath

from genre_flax.runtime import metric_writer

_STOP_SECONDS = 300.0
_PR_SET_PDEATHSIG = 1
_NO_MEMORY = re.compile(
  r'RESOURCE_EXHAUSTED|out.of.memory|MemoryError|bad_alloc|oom-kill'
  r'|cannot allocate memory',
  re.IGNORECASE,
)
# By the exit statuses of genre_flax.runtime.errors.
_KINDS = {2: 'bad config', 65: 'diverged', 69: 'unavailable', 73: 'busy'}
_KINDS |= {74: 'storage', 75: 'stalled'}


def handle_stop_signals(handler: Callable[[int, Any], None]) -> None:
  """Handles Ctrl-C, SIGTERM and SIGHUP, except those that nohup ignores."""
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, handler)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen:
  """Starts a process, out of reach of Ctrl-C, which ends with this one.

  On Linux it gets SIGTERM if this process dies.
  """

  def stop_with_parent():
    if sys.platform == 'linux':
      ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

  options |= {'start_new_session': True, 'stdin': subprocess.DEVNULL}
  return subprocess.Popen(command, preexec_fn=stop_with_parent, **options)


def stop(processes: Sequence[subprocess.Popen]) -> None:
  """Lets processes save and end together; kills them if that takes minutes."""
  for process in processes:
    process.terminate()
  end = time.monotonic() + _STOP_SECONDS
  for process in processes:
    try:
      process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()


def failure(status: int, output: str) -> tuple[str, str]:
  """The kind of a failure, such as 'diverged', and its reason.

  Both follow from the exit status and the end of the output.
  """
  lines = [line.strip() for line in output.splitlines() if line.strip()]
  last = lines[-1] if lines else f'exit status {status}'
  if status in _KINDS:
    message = [n for n, line in enumerate(lines) if line.startswith('error: ')]
    return _KINDS[status], ' '.join(lines[message[-1] :]) if message else last
  if memory := [line for line in lines if _NO_MEMORY.search(line)]:
    return 'out of memory', memory[-1]
  if status in (-signal.SIGKILL, 128 + signal.SIGKILL):
    return 'out of memory', 'killed by SIGKILL, probably for its memory'
  return 'crash', last


def read_progress(
  workdir: str, *, metric: str, split: str
) -> tuple[list[float], bool, float]:
  """Reads the metrics of a workdir, which may not exist yet.

  Returns:
    The values of a metric, whether the last evaluation is among them, and the
    peak memory of the host process in 10**9 bytes, or 0.
  """
  lines = metric_writer.read(workdir)
  memory = max((line.get('peak_memory_gb') or 0 for line in lines), default=0)
  lines = [line for line in lines if line.get('split') == split]
  lines = [line for line in lines if line.get(metric) is not None]
  try:
    starts = json.loads((epath.Path(workdir) / 'starts.json').read_bytes())
    is_last = lines[-1]['step'] == starts[-1]['num_train_steps']
  except (OSError, ValueError, LookupError, TypeError):
    is_last = False
  return [line[metric] for line in lines], is_last, memory
