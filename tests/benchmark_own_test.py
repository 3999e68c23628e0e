import types

import jax
import pytest

from genre_flax.benchmarks import own


def of_accelerator(monkeypatch, *, kind, memory):
  """A device that does 10 steps a second of 2 TFLOP each."""
  device = types.SimpleNamespace(device_kind=kind)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  monkeypatch.setattr(own.parallel, 'peak_device_memory_gb', lambda: memory)
  compiled = types.SimpleNamespace(cost_analysis=lambda: {'flops': 2e12})
  return own._of_accelerator(lambda: compiled, steps_per_second=10)


def test_the_share_of_the_peak_is_worked_out_by_hand(monkeypatch):
  result = of_accelerator(monkeypatch, kind='TPU v5 lite', memory=3.5)
  assert result == {
    'device_kind': 'TPU v5 lite',
    'tflops_per_second': 20,
    'peak_device_memory_gb': 3.5,
    'peak_flops_share': pytest.approx(20 / 197),
  }


def test_a_device_that_is_not_in_the_table_has_no_share(monkeypatch):
  result = of_accelerator(monkeypatch, kind='TPU v99', memory=None)
  assert result == {'device_kind': 'TPU v99', 'tflops_per_second': 20}


def test_a_cpu_has_neither():
  assert own._of_accelerator(None, steps_per_second=1) == {}
