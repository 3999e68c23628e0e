"""Processes on this machine, joined by JAX's distributed runtime."""

from collections.abc import Sequence
import itertools
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import IO

from launch import job as job_lib
from launch import processes as processes_lib

SHARES_FILES = True
OPTIONS = ('num_processes',)
# Peers of a process that failed may be failing too, with their own messages.
_GRACE_SECONDS = 5.0


def commands(job: job_lib.Job) -> list[list[str]]:
  """The command of each process, with its environment."""
  # The port is free now; a program that takes it first makes the job fail.
  with socket.socket() as listener:
    listener.bind(('localhost', 0))
    address = f'localhost:{listener.getsockname()[1]}'
  program = job.command(sys.executable, detect=False)
  variables = [f'{name}={value}' for name, value in job.env.items()]
  if job.num_nodes == 1:
    return [['env', *variables, *program]]
  variables.append(f'JAX_NUM_PROCESSES={job.num_nodes}')
  variables.append(f'JAX_COORDINATOR_ADDRESS={address}')
  return [
    ['env', *variables, f'JAX_PROCESS_ID={index}', *program]
    for index in range(job.num_nodes)
  ]


def run(job: job_lib.Job, output: IO[bytes]) -> int:
  """Runs a job, and writes the lines of its processes with a prefix.

  The first failure ends all processes, and its status is returned. The first
  Ctrl-C or SIGTERM asks them to save and stop, and the second one kills them.
  """
  processes = [
    processes_lib.start(
      command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for command in commands(job)
  ]
  num_signals = itertools.count()

  def forward(*args: object) -> None:
    del args
    if next(num_signals):
      processes_lib.kill(processes)
    else:
      for process in processes:
        process.terminate()

  processes_lib.handle_stop_signals(forward)
  lock = threading.Lock()

  def copy(index: int, source: IO[bytes]) -> None:
    for line in source:
      with lock:
        output.write(f'[{index}] '.encode() + line)
        output.flush()

  threads = [
    threading.Thread(target=copy, args=(index, process.stdout))
    for index, process in enumerate(processes)
  ]
  for thread in threads:
    thread.start()
  status = _wait(processes)
  processes_lib.kill(processes)
  for thread in threads:
    thread.join()
  return status


def _wait(processes: Sequence[subprocess.Popen]) -> int:
  """The status of the first failure, after which the others are killed.

  Processes that were asked to stop save together, however long that takes.
  """
  first, deadline = 0, float('inf')
  while True:
    statuses = [process.poll() for process in processes]
    failed = next(filter(None, statuses), 0)
    if failed and not first:
      # A shell's status for a process that a signal ended.
      first = failed if failed > 0 else 128 - failed
      if first != 128 + signal.SIGTERM:
        deadline = time.monotonic() + _GRACE_SECONDS
    if None not in statuses:
      return first
    if time.monotonic() > deadline:
      processes_lib.kill(processes)
    time.sleep(0.1)
