import types

import jax
import pytest

from benchmarks import measure_genre_flax
from benchmarks import measurement
from genre_flax import config as config_lib
from tests.support import helpers


@pytest.mark.parametrize(
  ('kind', 'memory', 'expected'),
  [
    (
      'TPU v5 lite',
      3.5,
      {
        'peak_device_memory_gb': 3.5,
        'peak_flops_share': pytest.approx(20 / 197),
      },
    ),
    ('TPU v99', None, {}),
  ],
)
def test_accelerators_have_flops_and_memory(
  monkeypatch, kind, memory, expected
):
  device = types.SimpleNamespace(device_kind=kind)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'tpu')
  monkeypatch.setattr(jax, 'local_devices', lambda: [device])
  monkeypatch.setattr(
    measure_genre_flax.parallel, 'peak_device_memory_gb', lambda: memory
  )
  compiled = types.SimpleNamespace(cost_analysis=lambda: {'flops': 2e12})
  metrics = measure_genre_flax._accelerator_metrics(
    lambda: compiled, steps_per_second=10
  )
  # 10 steps of 2 TFLOP per second.
  assert metrics == {'device_kind': kind, 'tflops_per_second': 20, **expected}


def test_input_and_epoch_are_measured_on_the_dataset_of_the_spec(data_dir):
  config = helpers.tiny_config('elsewhere', num_train_steps=2)
  config.dataset.cache = 'none'
  spec = measurement.Spec(
    'genre_flax',
    'input',
    config=config_lib.to_dict(config),
    num_examples={'train': 40},
    data_dir=str(data_dir),
  )
  rate = measure_genre_flax.measure_input(spec)['images_per_second']
  assert 0 < rate < float('inf')
  assert measure_genre_flax.measure_epoch(spec)['seconds'] > 0
