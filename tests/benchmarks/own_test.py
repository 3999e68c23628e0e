import types

import jax
import pytest

from benchmarks import child
from benchmarks import own
from genre_flax import config as config_lib
from tests.support import helpers


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


def test_input_and_epoch_are_measured_on_the_data_set_of_the_spec(data_dir):
  config = helpers.tiny_config('elsewhere', num_train_steps=2)
  config.dataset.cache = 'none'
  spec = child.Spec(
    contender='genre_flax',
    measurement='input',
    config=config_lib.to_dict(config),
    num_images=40,
    data_dir=str(data_dir),
  )
  rate = own.measure_input(spec)['images_per_second']
  assert 0 < rate < float('inf')
  assert own.measure_growth(spec)['milliseconds_per_image'] > 0
  assert own.measure_epoch(spec)['seconds'] > 0
