"""Fixtures of the tests of networks."""

import jax
from jax.experimental.compilation_cache import compilation_cache
import pytest

from genre_flax.ops.cpu import onednn


@pytest.fixture
def without_cache():
  """Compiles without JAX's cache, which oneDNN does not go with."""
  folder = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  compilation_cache.reset_cache()
  jax.clear_caches()
  yield
  jax.config.update('jax_compilation_cache_dir', folder)
  compilation_cache.reset_cache()


@pytest.fixture
def with_onednn(without_cache):
  """Skips a test where oneDNN is not to be had."""
  if not onednn.is_available():
    pytest.skip('oneDNN is not used with this jaxlib, or on this machine')


@pytest.fixture(params=['onednn', 'xla'])
def cpu_convolution(request, monkeypatch):
  """Runs a test once with oneDNN's convolutions and once with XLA's."""
  jax.clear_caches()  # JAX keeps what it traced of the other.
  if request.param == 'xla':
    monkeypatch.setenv('GENRE_FLAX_ONEDNN', '0')
    return
  request.getfixturevalue('with_onednn')
