"""Processes that end with this one, and their signals."""

from collections.abc import Callable, Sequence
import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

_STOP_SECONDS = 300.0
# Requests SIGTERM for the death of the parent (PR_SET_PDEATHSIG), and becomes
# the command. A function between fork and exec could block: JAX has threads.
_END_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() != int(sys.argv[1]):  # It has died.
  sys.exit(143)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def handle_stop_signals(handler: Callable[[int, Any], None]) -> None:
  """Handles Ctrl-C, SIGTERM and SIGHUP, except those that nohup ignores."""
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, handler)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen:
  """Starts a process, out of reach of Ctrl-C, which ends with this one.

  On Linux it gets SIGTERM if this process dies.
  """
  if sys.platform == 'linux':
    parent = str(os.getpid())
    wrapper = (sys.executable, '-IS', '-c', _END_WITH_PARENT, parent)
    command = [*wrapper, *command]
  options |= {'start_new_session': True, 'stdin': subprocess.DEVNULL}
  return subprocess.Popen(command, **options)


def stop(processes: Sequence[subprocess.Popen]) -> None:
  """Lets processes save and end together; kills them if that takes minutes."""
  for process in processes:
    process.terminate()
  end = time.monotonic() + _STOP_SECONDS
  for process in processes:
    try:
      process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
      kill([process])
      process.wait()


def kill(processes: Sequence[subprocess.Popen]) -> None:
  """Kills processes of `start` and their children."""
  for process in processes:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
