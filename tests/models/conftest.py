"""Fixtures of the tests of networks."""

import jax
from jax.experimental.compilation_cache import compilation_cache
import pytest

from genre_flax.models import onednn


@pytest.fixture(params=['onednn', 'xla'])
def cpu_convolution(request, monkeypatch):
  """Runs a test once with oneDNN's convolutions and once with XLA's."""
  if request.param == 'xla':
    monkeypatch.setenv('GENRE_FLAX_ONEDNN', '0')
    yield
    return
  folder = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', None)
  compilation_cache.reset_cache()
  try:
    if not onednn.is_available():
      pytest.skip('oneDNN is not used with this jaxlib, or on this machine')
    yield
  finally:
    jax.config.update('jax_compilation_cache_dir', folder)
    compilation_cache.reset_cache()
