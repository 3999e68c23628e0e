"""Fixtures that choose the library of CPU kernels."""

import jax
from jax.experimental.compilation_cache import compilation_cache
import pytest

from genre_flax.ops.cpu import onednn


@pytest.fixture
def no_compilation_cache():
  """Disables JAX's compilation cache, which turns oneDNN off."""
  folder = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  compilation_cache.reset_cache()
  jax.clear_caches()
  yield
  jax.config.update('jax_compilation_cache_dir', folder)
  compilation_cache.reset_cache()


@pytest.fixture
def with_onednn(no_compilation_cache):
  """Skips a test where oneDNN is not available."""
  if not onednn.is_available():
    pytest.skip(onednn.describe())


@pytest.fixture(params=['onednn', 'xla'])
def library(request, monkeypatch):
  """Runs a test with each library of CPU kernels."""
  jax.clear_caches()
  if request.param == 'xla':
    monkeypatch.setenv('GENRE_FLAX_ONEDNN', '0')
  else:
    request.getfixturevalue('with_onednn')
