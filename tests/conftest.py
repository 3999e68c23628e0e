"""What all tests share: eight CPU devices, and a small synthetic data set."""

import tempfile

import jax
import pytest

from genre_flax.datasets.posters import build
from genre_flax.datasets.posters import storage
from genre_flax.runtime import platform

NUM_DEVICES = 8

# Most of a test's time is compilation; many tests compile the same step.
_compiled = tempfile.TemporaryDirectory(prefix='genre_flax_tests_')
platform.configure()
jax.config.update('jax_compilation_cache_dir', _compiled.name)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', NUM_DEVICES)


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory):
  """117 synthetic posters: 93 to train, 12 to validate, 12 to test."""
  folder = tmp_path_factory.mktemp('data')
  build.build_synthetic(data_dir=folder, num_posters=117)
  return folder


@pytest.fixture(scope='session')
def dataset(data_dir):
  return storage.open_dataset(data_dir)
