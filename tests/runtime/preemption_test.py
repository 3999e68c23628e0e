"""Signals in one process; two processes are in multi_process_test."""

import os
import signal

import pytest

from genre_flax.runtime import preemption
from tests.support import programs

SINGLE = """
import os, signal, sys
import jax
jax.distributed.initialize(sys.argv[1], num_processes=1, process_id=0)
from genre_flax.runtime import preemption
with preemption.StopNotice() as stop:
  assert not stop.is_set(1)
  os.kill(os.getpid(), signal.SIGTERM)
  print(stop.is_set(2), stop.exit_status)
"""


def test_a_signal_sets_the_notice_and_restores_ctrl_c():
  before = signal.getsignal(signal.SIGTERM)
  with preemption.StopNotice() as stop:
    assert not stop.is_set(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.is_set(2)
    assert stop.exit_status == 143
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
  assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_distributed_run_of_a_single_process():
  variables = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
  done = programs.run_code(SINGLE, programs.free_address(), **variables)
  assert done.stdout.split()[-2:] == ['True', '143'], done.stderr
